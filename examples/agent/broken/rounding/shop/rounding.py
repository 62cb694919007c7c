def net(amount):
    cents = round(amount * 100)
    return cents / 100


def gross(amount, rate):
    cents = round(amount * 100)
    return cents / 100
