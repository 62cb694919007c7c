"""Values of model/ as people read them. Everything that came from a test is escaped for where it goes."""
