"""The one kind of error that a user can cause."""

LONGEST_LINE = 300
"""Characters of a foreign message that are shown."""


class UserError(Exception):
    """Something outside the code is wrong: one line with what, where and what to do."""


def in_a_line(message: object) -> str:
    """A foreign message in one line of sensible length, without control characters."""
    text = " ".join(str(message).split())
    shown = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
    return "".join(letter if letter.isprintable() else "?" for letter in shown)
