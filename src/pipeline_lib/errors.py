"""The one kind of error that a user can cause."""


class UserError(Exception):
    """Something outside the code is wrong: one line with what, where and what to do."""
