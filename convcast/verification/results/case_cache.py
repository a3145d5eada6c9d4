"""Cache of the statistics of scored cases, so that the next run scores only new ones.

There is one file for each case and system. Its key is a digest of the forecasts, the truth, the settings and the source
code of the scores. A file with another key is not used, and is replaced.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import numpy as np

from convcast.files import whole_file
from convcast.notation import Hour, compact

Kept = TypeVar("Kept")
SUFFIX = ".npz"
HEAD = ("key", "beside")
"""Names of the arrays that identify a record."""
AREA, LACKING, OF_TRUTH = "area/", "lacking/", "of_truth/"
"""Prefixes of notes by field: share of the domain with its middle event, number of the truth's points that the system
lacks, and number of the truth's points."""


@dataclass(frozen=True)
class Record:
    """Statistics of one system's forecasts of a case by field, and single numbers about them."""

    statistics: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)
    beside: str = ""
    """Digest of the other systems whose missing points were left out."""

    @property
    def narrows(self) -> bool:
        """Whether the system lacks points that the truth has."""
        return any(name.startswith(LACKING) for name in self.notes)


class Records:
    """Records in a folder, by system, initial time and lead (hours); without a folder nothing is stored.

    A record is valid for one key, a hash of everything that its scores depend on.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def load(self, system: str, init: Hour, lead: int, key: str, kind: type) -> Record | None:
        """Load the record with this key and its statistics, of type `kind`; None if there is none.

        Args:
            system: Name of the system.
            init: Initial time of the case.
            lead: Lead time, hours.
            key: Key that the record must have.
            kind: Class of the statistics.
        """
        arrays = self._read(system, init, lead, "")
        if str(arrays.pop("key", "")) != key:
            return None
        beside, notes = str(arrays.pop("beside", "")), _notes(arrays)
        names = sorted({n.split("/")[1] for n in arrays if n.startswith("field/")})
        try:
            return Record({name: _build(kind, arrays, f"field/{name}/") for name in names}, notes, beside)
        except (KeyError, TypeError, ValueError):
            return None

    def head(self, system: str, init: Hour, lead: int, key: str) -> Record | None:
        """Load the record with this key without its statistics; None if there is none.

        The arguments are those of `load`.
        """
        arrays = self._read(system, init, lead, "note/")
        if str(arrays.pop("key", "")) != key:
            return None
        return Record({}, _notes(arrays), str(arrays.get("beside", "")))

    def _read(self, system: str, init: Hour, lead: int, prefix: str) -> dict[str, Any]:
        """Read the arrays of HEAD and those with a prefix; none if the file cannot be read."""
        path = self._path(system, init, lead)
        if path is None or not path.is_file():
            return {}
        try:
            # Given a path, numpy leaves a file open if it cannot read it.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files if name in HEAD or name.startswith(prefix)}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            return {}

    def save(self, system: str, init: Hour, lead: int, key: str, record: Record) -> None:
        """Store a record, which replaces the one with another key.

        Args:
            system: Name of the system.
            init: Initial time of the case.
            lead: Lead time, hours.
            key: Key of the record.
            record: The record.
        """
        path = self._path(system, init, lead)
        if path is None:
            return
        arrays: dict[str, Any] = {"key": np.array(key), "beside": np.array(record.beside)}
        arrays |= {f"note/{name}": np.array(value) for name, value in record.notes.items()}
        for name, statistics in record.statistics.items():
            arrays |= _flatten(statistics, f"field/{name}/")
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    def _path(self, system: str, init: Hour, lead: int) -> Path | None:
        return None if self.folder is None else self.folder / system / f"{compact(init)}+{lead:03d}h{SUFFIX}"


def _notes(arrays: Mapping[str, Any]) -> dict[str, float]:
    return {name.removeprefix("note/"): float(a) for name, a in arrays.items() if name.startswith("note/")}


def _flatten(value: Any, prefix: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for one in fields(value):
        its, name = getattr(value, one.name), f"{prefix}{one.name}"
        if is_dataclass(its):
            arrays |= _flatten(its, f"{name}/")
        elif isinstance(its, Mapping):
            arrays |= {f"{name}/{key}": np.asarray(array) for key, array in its.items()}
        else:
            arrays[name] = np.asarray(its)
    return arrays


def _build(kind: type[Kept], arrays: Mapping[str, Any], prefix: str) -> Kept:
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for one in fields(kind):  # type: ignore[arg-type]
        hint, name = hints[one.name], f"{prefix}{one.name}"
        if is_dataclass(hint):
            values[one.name] = _build(hint, arrays, f"{name}/")  # type: ignore[arg-type]
        elif hint in (int, float, bool, str):
            values[one.name] = hint(arrays[name].item())
        elif get_origin(hint) is dict:
            values[one.name] = {n.removeprefix(f"{name}/"): a for n, a in arrays.items() if n.startswith(f"{name}/")}
        elif get_origin(hint) is tuple:
            values[one.name] = tuple(arrays[name].tolist())
        else:
            values[one.name] = arrays[name]
    return kind(**values)
