"""Diagnosis: whether a failure is real, where it comes from, since when."""
