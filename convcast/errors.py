"""Expected errors, each with its exit code.

ConvcastError
├── SettingsError        2  a flag, a variable, the TOML or the workspace is not usable
├── MissingInputError    3  finished or stopped with more input missing than is allowed
│   └── DiskFullError    3  the disk filled; what was complete stays, the same command finishes the work
├── NotPublishedError    4  not there yet; try later
├── LockedError          5  another run holds the lock
└── DamagedFileError     6  a file is damaged, or was not made for this purpose

Each message is one sentence that names what is wrong; `advice` is the next command or change to make.
Any other exception is a bug (exit code 1).
"""

from __future__ import annotations

import errno
import os

TRAIN_ANOTHER = "run `convcast train --model another`, and use that one"
"""Advice where a model is damaged."""


class ConvcastError(Exception):
    """An expected failure: one sentence that says what is wrong, and advice on what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.advice = advice


class SettingsError(ConvcastError):
    """A flag, an environment variable, the TOML or the workspace cannot be used as it stands."""

    exit_code = 2


class MissingInputError(ConvcastError):
    """More input is missing or rejected than the run may tolerate."""

    exit_code = 3


class DiskFullError(MissingInputError):
    """The disk is full; complete files stay, and the same command continues from there."""


class NotPublishedError(ConvcastError):
    """The publisher has not made the data available yet."""

    exit_code = 4


class LockedError(ConvcastError):
    """Another run is working on the same thing."""

    exit_code = 5


class DamagedFileError(ConvcastError):
    """A file is damaged, or belongs to another model, grid, world or program."""

    exit_code = 6


NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Error numbers of locking a file on a file system without locks."""


def from_os_error(error: OSError) -> ConvcastError | None:
    """Convert an OSError to an expected error, or return None if it is a bug of convcast."""
    file = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"the disk is full{file}; everything that was complete is kept",
            advice="free some space, then run the same command again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SettingsError(f"no permission to write{file}", advice="choose another --workspace")
    reason = error.strerror or type(error).__name__
    if error.errno in _DISK:
        return DamagedFileError(
            f"the disk failed to read or write{file}: {reason}; everything that was complete is kept",
            advice="check the disk (`dmesg` names it), then run the same command again",
        )
    if error.errno in _PATH:
        return SettingsError(f"a file or folder is in the way{file}: {reason}", advice="rename it, or name another")
    if error.errno in NO_LOCKS or error.errno == errno.EXDEV:
        return SettingsError(
            f"the file system cannot do what is needed{file}: {reason}",
            advice="keep the workspace on another file system (--workspace)",
        )
    if error.errno in (errno.EBUSY, errno.ETXTBSY):
        return SettingsError(f"another program holds a file{file}", advice="end it, then run the same command again")
    if error.errno == errno.EFBIG:
        return SettingsError(
            f"a file is larger than the file system or `ulimit -f` allows{file}", advice="choose another --workspace"
        )
    if error.errno == errno.ENOMEM:
        return SettingsError(f"the memory is full{file}", advice="use fewer --workers, or a smaller --region")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return SettingsError(f"too many files are open{file}", advice="allow more (ulimit -n), or use fewer workers")
    if "temporary directory" in str(error):  # tempfile has no error type of its own
        return SettingsError("no folder for temporary files can be written to", advice="set TMPDIR to one that can")
    if error.errno == errno.ENOENT and not _is_here():
        return SettingsError("the working directory was deleted", advice="change to a folder that exists (cd)")
    return None


def _is_here() -> bool:
    try:
        os.getcwd()  # noqa: PTH109  pathlib makes the same call
    except FileNotFoundError:
        return False
    return True


_DISK = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ETIMEDOUT, errno.EBADMSG} | {
    getattr(errno, name)
    for name in ("EREMOTEIO", "EUCLEAN", "ENOMEDIUM")
    if hasattr(errno, name)  # only on Linux
}
_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG)
