"""The vocabulary of TraceTriage as frozen structs: no behaviour but validation.

`trace`, `run`, `analysis` and `policy` hold the structs. Import them from there: an observed run needs only the first two.
"""
