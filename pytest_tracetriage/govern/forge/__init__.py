"""Places where a project lives beside its repository. `github`: comments, check runs and statuses, each exactly once."""
