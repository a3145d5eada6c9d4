"""Text that came from outside, made fit to be shown on a terminal or a page."""

from __future__ import annotations

import re
from typing import Any


def displayed(value: Any) -> Any:
    """What a page shows of a value: text as `printable` has it, anything else and what is markup as it is."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def markdown(text: str) -> str:
    """Text from outside as it stands in Markdown, where it is no markup."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", printable(text))


def printable(text: str) -> str:
    """Text from outside as it may be shown: control characters, line ends and marks of direction stand as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
