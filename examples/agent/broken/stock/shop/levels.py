def missing(stock, wanted):
    return [name for name in wanted if stock[name] <= 0]
