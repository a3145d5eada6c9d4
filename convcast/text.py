"""Text that came from outside, made fit to be shown on a terminal or a page."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text from outside as it may be shown: control characters, line ends and marks of direction stand as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
