"""After power cuts, files, folders and journals are whole or absent, and no reported work is lost."""

from __future__ import annotations

import json

import pytest
from power import Disk

from convcast.files import append_line, discard, whole_file, whole_folder, write_bytes, write_json


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    return Disk(tmp_path / "disk")


def named(tree):
    return {name: each for name, each in tree.items() if not name.endswith(".partial")}


def test_the_watched_disk_loses_what_is_not_synced(disk):
    """The instrument itself: a rename without any sync may leave nothing, an empty file, or the old one."""
    with disk:
        (disk.root / "a").write_bytes(b"old")
        (disk.root / "a").rename(disk.root / "b")
    assert {} in disk.states
    assert {"b": b""} in disk.states


def test_a_file_is_whole_or_absent_and_is_there_once_it_is_written(disk):
    with disk:
        write_bytes(disk.root / "new" / "folder" / "a", b"old")
        before = len(disk.states)
        disk.cut()
        assert {"new": {"folder": {"a": b"old"}}} in disk.states
        write_json(disk.root / "new" / "folder" / "a", "new")

    for number, state in enumerate(disk.states):
        found = named(state.get("new", {}).get("folder", {})).get("a")
        assert found in ((None, b"old", b'"new"\n') if number <= before else (b"old", b'"new"\n'))
    assert named(disk.states[-1]["new"]["folder"]) == {"a": b'"new"\n'}


def test_a_folder_is_whole_or_absent_and_is_there_once_it_is_written(disk):
    path = disk.root / "above" / "folder"
    whole = [{"a": text.encode(), "b": {"c": text.encode()}} for text in ("old", "new")]

    def fill(text):
        with whole_folder(path) as unfinished:
            (unfinished / "b").mkdir()
            for file in ("a", "b/c"):
                (unfinished / file).write_text(text)

    with disk:
        fill("old")
        disk.cut()
        assert {"above": {"folder": whole[0]}} in [{"above": named(state.get("above", {}))} for state in disk.states]
        fill("new")

    for state in disk.states:
        assert named(state.get("above", {})).get("folder") in [None, *whole]
    assert named(disk.states[-1]["above"]) == {"folder": whole[1]}


def test_a_folder_that_is_there_is_kept_without_replace(tmp_path):
    for text in ("first", "second"):
        with whole_folder(tmp_path / "a", replace=False) as unfinished:
            (unfinished / "file").write_text(text)
    assert (tmp_path / "a" / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a"
    path.mkdir()
    (path / "file").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(path):
        raise RuntimeError
    assert (path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lines_of_a_journal_stay_in_order(disk):
    with disk:
        for number in range(3):
            append_line(disk.root / "journal" / "a.jsonl", {"number": number})
            disk.cut()
            lines = [state.get("journal", {}).get("a.jsonl", b"").splitlines() for state in disk.states]
            assert number + 1 in map(len, lines)
    for left in lines:
        assert [json.loads(line)["number"] for line in left] == list(range(len(left)))


def test_a_discarded_folder_does_not_come_back_in_part(disk):
    path = disk.root / "folder"
    with disk:
        with whole_folder(path) as unfinished:
            for name in "abc":
                (unfinished / name).write_text(name)
        discard(path)
    for state in disk.states:
        assert named(state).get("folder") in (None, {"a": b"a", "b": b"b", "c": b"c"})
    assert named(disk.states[-1]) == {}


def test_a_temporary_name_is_nobody_elses(tmp_path):
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "a") as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
