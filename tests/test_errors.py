"""What a disk may answer is an expected failure, with a sentence and advice."""

from __future__ import annotations

import errno
import os

import pytest

from convcast.errors import from_os_error

ANSWERS = {
    errno.ENOSPC: 3,
    errno.EDQUOT: 3,
    errno.EACCES: 2,
    errno.EROFS: 2,
    errno.EIO: 6,
    errno.EUCLEAN: 6,
    errno.ENXIO: 6,
    errno.ESTALE: 6,
    errno.ENOTCONN: 6,
    errno.ENOLCK: 2,
    errno.EOPNOTSUPP: 2,
    errno.ENOSYS: 2,
    errno.EXDEV: 2,
    errno.EMFILE: 2,
    errno.ENFILE: 2,
    errno.ENAMETOOLONG: 2,
    errno.ELOOP: 2,
    errno.ENOTDIR: 2,
    errno.EISDIR: 2,
    errno.EBUSY: 2,
    errno.EFBIG: 2,
    errno.ENOMEM: 2,
}


@pytest.mark.parametrize("code", ANSWERS, ids=lambda code: errno.errorcode[code])
def test_what_a_disk_answers_is_no_bug(code):
    found = from_os_error(OSError(code, os.strerror(code), "w/archive/x"))
    assert found is not None
    assert found.exit_code == ANSWERS[code]
    assert "w/archive/x" in str(found)
    assert found.advice


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "x"), OSError("x"), FileNotFoundError(errno.ENOENT, "x")])
def test_the_rest_may_be_a_bug(error):
    assert from_os_error(error) is None
