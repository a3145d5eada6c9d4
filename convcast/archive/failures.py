"""Reasons why a source does not provide a file, which decide the status of its hour.

These exceptions stay within the archive package: `fetch` converts them to one FetchOutcome per file.
"""

from __future__ import annotations

STOPPED = "the run was stopped"


class Failure(Exception):  # noqa: N818  never an error that escapes
    """A source cannot provide a file; the message is a clause that says why."""


class Absent(Failure):
    """The source does not have the file."""


class Transient(Failure):
    """The source could not answer; the same request may succeed later."""


class Bad(Failure):
    """The source's file is not the requested one, or is damaged."""


class Incomplete(Bad):
    """The source's file is incomplete, for example while it is being uploaded."""
