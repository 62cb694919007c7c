def total(items):
    return sum(price for price, quantity in items)


def empty(items):
    return len(items) == 1
