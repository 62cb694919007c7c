"""Spans of the running test: by hand, from Weave, from OpenTelemetry."""
