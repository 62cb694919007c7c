"""What keeps tests from being run again."""


class ExecuteError(Exception):
    """No worktree could be made, or its preparation failed; the text is for people: what, where, what to do."""
