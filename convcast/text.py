"""Escape untrusted text for terminals, HTML pages and Markdown, and shorten lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(package: str) -> Environment:
    """Return the HTML templates of a package; values are escaped, and an undefined name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        finalize=_displayed,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _displayed(value: Any) -> Any:
    """Make a value safe for a page: text is escaped by `printable`; markup and other values are unchanged."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def markdown(text: str) -> str:
    """Escape untrusted text for Markdown."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", printable(text))


def printable(text: str) -> str:
    """Escape control characters, line ends and direction marks in untrusted text."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def list_some(names: Sequence[object], most: int) -> str:
    """List names for people: the first `most` of them, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
