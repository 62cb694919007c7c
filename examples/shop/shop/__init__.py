"""The core of a small web shop: catalogue, cart, checkout, stock and reports."""
