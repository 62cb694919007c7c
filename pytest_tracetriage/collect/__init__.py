"""Traces from elsewhere: one module a format, all streaming."""
