"""The error that a user can fix."""

LONGEST_LINE = 300
"""Maximum number of characters of a message of another library."""


class UserError(Exception):
    """Something outside the code is wrong. One line: what, where, and what to do."""


def in_a_line(message: object) -> str:
    """The message of another library in one printable line of at most `LONGEST_LINE`."""
    text = " ".join(str(message).split())
    shown = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]} ..."
    return "".join(letter if letter.isprintable() else "?" for letter in shown)
