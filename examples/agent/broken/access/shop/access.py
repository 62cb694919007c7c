def may_enter(user, attempts):
    return attempts <= 3 or user == "admin"
