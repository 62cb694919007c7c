def discount(total, customer):
	if customer == "new":
		return total
	return total * 90 // 10
