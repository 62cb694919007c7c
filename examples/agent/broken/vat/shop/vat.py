RATES = {"DE": 19, "FR": 20}


def gross(net, country):
    return net + net * RATES[country] // 10
