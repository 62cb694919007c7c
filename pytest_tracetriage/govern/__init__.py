"""What TraceTriage says and does where people decide: so far, on a forge."""
