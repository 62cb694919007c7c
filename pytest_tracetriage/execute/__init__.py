"""Tests run again: so far, how they are selected."""
