"""Prepare the process that a verb runs in: its standard streams, home folder and signal handlers."""

from __future__ import annotations

import atexit
import codecs
import io
import logging
import os
import pwd
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from types import TracebackType
from typing import Any

from convcast.text import printable
from convcast.workers import SAFE_PATH

INTERRUPTED = 130
PATIENCE = 1.7
"""Seconds an interrupted run has to clean up before it is killed."""
WIDTHS = range(40, 1001)
"""Accepted values of COLUMNS."""
ASCII = {"✓": "ok", "✗": "x", "→": "->", "–": "-", "…": "...", "·": "-", "°": "deg", "ε": "eps", "×": "x", "−": "-"}
"""Replacements for symbols that the output's encoding lacks; other characters become escapes."""


def prepare() -> None:
    """Set up streams, environment and home folder, which shells, schedulers and containers may leave unusable."""
    _open_closed_streams()
    codecs.register_error("convcast", _in_ascii)
    sys.stdout, sys.stderr = _Stream.over(sys.stdout, 1), _Stream.over(sys.stderr, 2)
    columns = os.environ.get("COLUMNS", "")
    if columns and not (columns.isdecimal() and len(columns) < 5 and int(columns) in WIDTHS):
        del os.environ["COLUMNS"]
    os.environ.setdefault(*SAFE_PATH)  # also for processes that the run starts
    os.environ["MPLBACKEND"] = "agg"  # a notebook sets a backend that only it can load
    _find_a_home()
    _escape_what_others_print()


def end_on_sigterm() -> None:
    """Make SIGTERM, which `kill` and schedulers send, end a run as Ctrl-C does, within two seconds in any case.

    Signal handlers wait for the main thread, which may be in compiled code or wait for a server; a second thread
    does not. Complete files are kept, as after any kill.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_soon, args=(reader,), name="sigterm", daemon=True).start()
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _end_soon(reader: int) -> None:
    while signal.SIGTERM not in os.read(reader, 1):
        continue
    time.sleep(PATIENCE)
    import psutil

    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(INTERRUPTED)


class _Stream(io.TextIOWrapper):
    """A standard stream that can write any character, and goes on if its reader has closed the pipe."""

    @classmethod
    def over(cls, stream: Any, number: int) -> _Stream:
        """Wrap a stream with its encoding; None stands for one that was closed when the process started."""
        if stream is None:
            return cls(open(number, "wb", closefd=False), encoding="utf-8", errors="convcast")
        encoding, buffered = stream.encoding, stream.line_buffering
        return cls(stream.detach(), encoding=encoding, errors="convcast", line_buffering=buffered)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self.discard()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self.discard()
            super().flush()

    def discard(self) -> None:
        """Discard everything that is written from now on, and what is buffered."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _open_closed_streams() -> None:
    """Open streams that `>&-` closed; otherwise the next opened file would get their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(ASCII.get(one) or one.encode("unicode_escape").decode() for one in lost), error.end


def _find_a_home() -> None:
    """Give a user without a home folder, as in some containers, a temporary one.

    Libraries keep settings and caches there. Without one they raise, or make a folder named `~`.
    """
    if "HOME" in os.environ:
        return
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        home = tempfile.mkdtemp(prefix="convcast-home-")
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        os.environ["HOME"] = home
        os.environ.setdefault("LOGNAME", str(os.getuid()))


def _escape_what_others_print() -> None:
    """Escape control characters in tracebacks, warnings and log lines, which may quote text from outside."""
    logging.lastResort = logging.StreamHandler()
    logging.lastResort.setLevel(logging.WARNING)
    logging.lastResort.setFormatter(_Escaping())
    written = warnings.formatwarning

    def formatted(message: Warning | str, *where: Any, **more: Any) -> str:
        return escaped(written(message, *where, **more))

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(escaped("".join(traceback.format_exception(kind, error, trace))))

    warnings.formatwarning = formatted
    sys.excepthook = told


class _Escaping(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record))


def escaped(text: str) -> str:
    """Return a text with its control characters escaped, except line ends."""
    return "\n".join(map(printable, text.split("\n")))
