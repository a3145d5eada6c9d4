"""States of a workspace: stored by content, restored, and compared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

VOLATILE = {
    "at",
    "minutes",
    "seconds",
    "ended",
    "started",
    "succeeded",
    "free_bytes",
    "fetched",
    "samples_per_second",
    "waiting",
}
"""Names in JSON of values that differ between two runs of the same work: times and durations."""
SIGNATURES = {"chunks", "file"}
"""Names in JSON of signatures of files, [bytes, time], which contain the time of writing."""
VOLATILE_TEXT = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?|\d+(\.\d+)? (minutes?|seconds?|min|s)\b"
)
OURS = re.compile(r"-\d+-\d+\.partial$")
"""Pattern of a partial file's name, which contains the process that made it (convcast.files)."""
SETTLED = 50_000_000
"""Nanoseconds without a change after which a file's time distinguishes it from any later content."""
UNCOMPARED = re.compile(r"(^|/)locks/|\.lock$|(^|/)events/|^journal\.jsonl$|^cycle\.json$|^metrics\.prom$")
"""Files that are not compared: locks, which are empty, and logs of each run."""


class States:
    """Stored states of a workspace. Each is a JSON file that names the files, whose contents are stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests: dict[tuple[int, ...], str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, root: Path) -> str:
        """Store the state of a folder, and return its name, which depends on all its contents."""
        found: dict[str, Any] = {}
        self._look(os.fspath(root), "", found)
        there = {path: entry[:1] if entry else entry for path, entry in found.items()}
        name = hashlib.sha256(json.dumps(there, sort_keys=True).encode()).hexdigest()[:24]
        self._write(self.folder / f"{name}.json", json.dumps(found).encode())
        return name

    def _look(self, folder: str, prefix: str, found: dict[str, Any]) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                found[f"{path}/"] = []
                self._look(entry.path, f"{path}/", found)
                continue
            found[path] = [self._keep_file(entry), entry.stat().st_mtime_ns]

    def _keep_file(self, entry: os.DirEntry[str]) -> str:
        """Store a file's content, and return its digest; an unchanged file is not read again."""
        before = entry.stat()
        now = before.st_dev, before.st_ino, before.st_size, before.st_mtime_ns, before.st_ctime_ns
        if now not in self._digests:
            with open(entry.path, "rb") as file:
                data = file.read()
            digest = hashlib.sha256(data).hexdigest()[:24]
            self._write(self.folder / digest, data)
            if time.time_ns() - before.st_ctime_ns < SETTLED:
                return digest
            self._digests[now] = digest
        return self._digests[now]

    def _write(self, path: Path, data: bytes) -> None:
        if not path.exists():
            temporary = path.with_name(f"{path.name}.{os.getpid()}")
            temporary.write_bytes(data)
            temporary.rename(path)

    def lay_out(self, name: str, root: Path, *, later: bool = False) -> None:
        """Restore the folder; with `later`, partial files of unknown processes get an old time."""
        shutil.rmtree(root, ignore_errors=True)
        for path, entry in json.loads((self.folder / f"{name}.json").read_bytes()).items():
            target = root / path
            if path.endswith("/"):
                target.mkdir(parents=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((self.folder / entry[0]).read_bytes())
            os.utime(target, ns=(entry[1], entry[1]))
        for path in root.rglob("*.partial") if later else ():
            if not OURS.search(path.name):
                os.utime(path, (0, 0))


def differences(expected: Path, found: Path) -> list[str]:
    """Return the differences in content of the second workspace from the first."""
    before, after = _files(expected), _files(found)
    wrong = []
    arrays = set()
    for path in sorted(before | after):
        if "/c/" in path or path.endswith("/c"):
            if path not in before or path not in after or not _same_bytes(expected / path, found / path):
                arrays.add(re.sub(r"/c(/.*)?$", "", path))
        elif path not in after:
            wrong.append(f"{path} is missing")
        elif path not in before:
            wrong.append(f"{path} is left over")
        elif not _same_bytes(expected / path, found / path) and not _same(expected / path, found / path):
            wrong.append(f"{path} differs")
    wrong += [f"{path} has other values" for path in sorted(arrays) if not _same_array(expected / path, found / path)]
    return wrong


def leftovers(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.partial"))


def _files(root: Path) -> set[str]:
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    return {path for path in paths if not UNCOMPARED.search(path)}


def _same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def _same(one: Path, other: Path) -> bool:
    match one.suffix:
        case ".json":
            return _steady(json.loads(one.read_bytes())) == _steady(json.loads(other.read_bytes()))
        case ".jsonl":
            first, second = _last_lines(one), _last_lines(other)
            return all(first[key] == second[key] for key in first.keys() & second.keys())
        case ".safetensors":
            return _same_tensors(one, other)
        case ".npz":
            with np.load(one) as first, np.load(other) as second:
                # The key of a record depends on the times of the files from which it was computed.
                names = [sorted(set(each) - {"key"}) for each in (first, second)]
                return names[0] == names[1] and all(_equal(first[name], second[name]) for name in names[0])
        case ".nc":
            import xarray as xr

            with xr.open_dataset(one) as first, xr.open_dataset(other) as second:
                for each in (first, second):
                    each.attrs.pop("history", None)
                return bool(first.identical(second))
        case ".md" | ".html":
            return VOLATILE_TEXT.sub("", one.read_text()) == VOLATILE_TEXT.sub("", other.read_text())
        case _:
            return False


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        names = [
            name
            for name in value
            if name not in VOLATILE and not (name in SIGNATURES and isinstance(value[name], list))
        ]
        return {name: _steady(value[name]) for name in names}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def _last_lines(path: Path) -> dict[Any, Any]:
    """Return the last line of each hour, step or case, which counts if work was repeated.

    A log may lack the line of work that was complete just before the process died.
    """
    lines = {}
    for line in path.read_text().splitlines():
        entry = _steady(json.loads(line))
        lines[tuple(str(entry.get(name)) for name in ("valid", "step", "init", "lead"))] = entry
    return lines


def _same_tensors(one: Path, other: Path) -> bool:
    from safetensors import safe_open

    with safe_open(one, framework="np") as first, safe_open(other, framework="np") as second:
        facts = [_steady(json.loads(file.metadata().get("facts", "{}"))) for file in (first, second)]
        names = set(first.keys())
        same = names == set(second.keys()) and facts[0] == facts[1]
        return same and all(_equal(first.get_tensor(name), second.get_tensor(name)) for name in names)


def _same_array(one: Path, other: Path) -> bool:
    import zarr

    if not (one / "zarr.json").exists() or not (other / "zarr.json").exists():
        return False
    first, second = (zarr.open_array(path, mode="r", zarr_format=3) for path in (one, other))
    return first.shape == second.shape and _equal(np.asarray(first[...]), np.asarray(second[...]))


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
