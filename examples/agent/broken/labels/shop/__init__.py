import json

with open("shop/labels.json", encoding="utf-8") as file:
    LABELS = json.load(file)
