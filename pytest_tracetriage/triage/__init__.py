"""From traces to root causes: pure functions, deterministic, independent of the order of their input."""
