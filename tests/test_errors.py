"""Errors of the operating system become expected errors with the right exit code."""

import errno
import os

import pytest

from convcast.errors import from_os_error


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("ENOSPC", 3),
        ("EDQUOT", 3),
        ("EACCES", 2),
        ("EROFS", 2),
        ("EIO", 6),
        ("ESTALE", 6),
        ("ENOTCONN", 6),
        ("ETIMEDOUT", 6),
        ("ENOTDIR", 2),
        ("EISDIR", 2),
        ("EEXIST", 2),
        ("ELOOP", 2),
        ("ENAMETOOLONG", 2),
        ("EMFILE", 2),
        ("ENFILE", 2),
        ("ENOMEM", 2),
        ("EUCLEAN", 6),
        ("EBADMSG", 6),
        ("ENOLCK", 2),
        ("EOPNOTSUPP", 2),
        ("ENOSYS", 2),
        ("EXDEV", 2),
        ("EBUSY", 2),
        ("EFBIG", 2),
    ],
)
def test_errors_of_disks_and_paths_are_expected(number, code):
    known = getattr(errno, number)
    found = from_os_error(OSError(known, os.strerror(known), "/w/file"))
    assert found.exit_code == code
    assert "/w/file" in str(found)
    assert found.advice


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    absent = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "w")
    assert from_os_error(absent) is None
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "working directory" in str(from_os_error(absent))


def test_no_folder_for_temporary_files(monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nonexistent"])
    with pytest.raises(FileNotFoundError) as raised:
        tempfile.gettempdir()
    assert "TMPDIR" in from_os_error(raised.value).advice


def test_anything_else_is_a_bug():
    assert from_os_error(OSError(errno.EINVAL, "invalid")) is None
