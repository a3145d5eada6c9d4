"""Files are complete or absent, locks exclude other runs, and lines of concurrent runs do not mix."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from convcast import files
from convcast.errors import DamagedFileError, LockedError, SettingsError
from convcast.files import HOST, append_line, lock, read_json, sha256, sweep, whole_file, write_json


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a" / "b.bin"
    with whole_file(path) as temporary:
        temporary.write_bytes(b"abc")
        assert not path.exists()

    assert path.read_bytes() == b"abc"
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [p.name for p in path.parent.iterdir()] == ["b.bin"]


def test_a_shared_folder_keeps_the_partial_files_of_other_programs(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    ours, theirs = tmp_path / f".a.nc.{HOST}-{gone.pid}-0.partial", tmp_path / "film.mkv.partial"
    for path in (ours, theirs):
        path.touch()
        os.utime(path, (0, 0))

    assert sweep(tmp_path, shared=True) == 1
    assert list(tmp_path.iterdir()) == [theirs]


def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / "b.bin"
    path.write_bytes(b"old")

    def fail_halfway():
        with whole_file(path) as temporary:
            temporary.write_bytes(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_leaves_no_final_name(tmp_path):
    path = tmp_path / "b.bin"
    program = (
        "import sys, time, pathlib; from convcast.files import whole_file\n"
        f"with whole_file(pathlib.Path({str(path)!r})) as t:\n"
        "    t.write_bytes(b'half'); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)

    assert not path.exists()


def test_json_round_trips_and_damage_is_named(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": [1, 2]})
    assert read_json(path) == {"a": [1, 2]}

    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedFileError, match=r"a\.json"):
        read_json(path)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\xff"], ids=["list", "object", "digits", "bytes"]
)
def test_json_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedFileError, match=r"a\.json is not readable JSON"):
        read_json(path)


def test_json_larger_than_any_of_ours_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    with open(path, "wb") as file:
        file.truncate(32 << 30)
    with pytest.raises(DamagedFileError, match=r"a\.json is not readable JSON \(it has 34359738368 bytes\)"):
        read_json(path)


def _append(path, name):
    for number in range(1000):
        append_line(path, {"who": name, "number": number, "padding": "x" * 500})


def test_lines_of_several_processes_never_mix(tmp_path):
    path = tmp_path / "journal.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(path, name)) for name in "abcd"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(entries) == 4000
    assert [e["number"] for e in entries if e["who"] == "a"] == list(range(1000))


def test_a_line_that_is_cut_short_swallows_no_other(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    append_line(path, {"number": 1})
    to_file, filled = os.write, iter([False, True])

    def filling(descriptor, data):
        """Write as on a disk that fills within a write: a part is written, and the next write fails."""
        if next(filled):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return to_file(descriptor, data[:9])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", filling)
        with pytest.raises(OSError, match="No space left"):
            append_line(path, {"number": 2})
    append_line(path, {"number": 3})

    first, torn, last = path.read_text().splitlines()
    assert (json.loads(first)["number"], len(torn), json.loads(last)["number"]) == (1, 9, 3)


def _hold(path, ready):
    with lock(path, "holding"):
        ready.set()
        time.sleep(60)


def test_a_second_run_is_told_at_once_and_a_dead_one_is_forgotten(tmp_path):
    path = tmp_path / "x.lock"
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(path, ready))
    holder.start()
    assert ready.wait(30)

    with pytest.raises(LockedError, match="another run is fetching"), lock(path, "fetching"):
        pass

    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with lock(path, "fetching"):
        pass


def test_a_lock_that_is_a_link_or_a_folder_is_refused_and_nothing_is_written_through_it(tmp_path):
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "linked.lock").symlink_to(target)
    (tmp_path / "dangling.lock").symlink_to(tmp_path / "nothing")
    (tmp_path / "folder.lock").mkdir()
    for name in ("linked", "dangling", "folder"):
        with pytest.raises(SettingsError, match="is a link or a folder"), lock(tmp_path / f"{name}.lock", "fetching"):
            pass
    assert target.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, code):
    def without(descriptor, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", without)
    for attempt in (lambda: lock(tmp_path / "a.lock", "fetching").__enter__(), lambda: append_line(tmp_path / "j", {})):
        with pytest.raises(SettingsError, match="cannot lock files") as caught:
            attempt()
        assert "another file system" in caught.value.advice


def test_an_error_of_the_work_under_a_lock_is_not_one_of_the_lock(tmp_path):
    with pytest.raises(OSError, match="Too many levels"), lock(tmp_path / "a.lock", "fetching"):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    with lock(tmp_path / "a.lock", "fetching"):
        pass


def test_partial_names_of_any_kind_are_swept_by_who_made_them_and_age(tmp_path):
    def made(name, age):
        path = tmp_path / "a" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
        return path

    gone, mine, old, new = "999999999", os.getpid(), files.STALE_SECONDS + 60, 0
    stay = [
        made(f".x.{files.HOST}-{mine}-0.partial", new),
        made(".x.00000000-999999999-0.partial", new),  # of another machine
        made("x.12345678901234567890.partial", new),
        made("x.99999999999999999999-1.partial", new),
        made("x.partial", new),
        made("x.partial.txt", old),
    ]
    go = [
        made(f".x.{files.HOST}-{gone}-0.partial", new),
        made(f".y.{files.HOST}-{mine}-1.partial", 10 * old),  # of a process that had this number before
        made(".y.00000000-999999999-0.partial", old),
        made("y.12345678901234567890.partial", old),
        made(f".y.{files.HOST}-12345678901234567890-0.partial", old),
        made("y.partial", old),
    ]
    folder = tmp_path / "a" / "b" / f".z.{files.HOST}-{gone}-2.partial"
    folder.mkdir(parents=True)
    assert files.sweep(tmp_path, recursive=False) == 0
    assert files.sweep(tmp_path) == len(go) + 1
    assert [path.exists() for path in (*stay, *go, folder)] == [True] * len(stay) + [False] * (len(go) + 1)
    assert files.sweep(tmp_path, alone=True) == len(stay) - 1
    assert files.sweep(tmp_path / "not there") == 0


def test_a_link_that_looks_partial_is_deleted_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "precious").touch()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.partial").symlink_to(tmp_path / "a")
    assert files.sweep(tmp_path / "b", alone=True) == 1
    assert (tmp_path / "a" / "precious").exists()
