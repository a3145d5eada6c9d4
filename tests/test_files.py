"""Files are whole or absent; locks hold; lines of the journal never mix."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from convcast.errors import DamagedFileError, LockedError
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
        """As on a disk that fills within a write: what fits is written, and the next write fails."""
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
