"""Why a source did not give an hour: the four answers that decide what becomes of it.

They stay inside the archive: `fetch` turns them into outcomes, one an hour.
"""

from __future__ import annotations

STOPPED = "the run was stopped"


class Failure(Exception):  # noqa: N818  never an error that escapes
    """One source cannot give one hour; the message is a clause that says why."""


class Absent(Failure):
    """The source says that it has no such file."""


class Transient(Failure):
    """The source could not answer now; the same request may work later."""


class Bad(Failure):
    """What the source gives is not the file that was asked for."""


class Incomplete(Bad):
    """What the source gives falls short, as a file does while it is being uploaded."""
