"""What runs inside the test process: the recorder, and what it records."""
