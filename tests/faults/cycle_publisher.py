"""A publisher for tests of cycles: it uploads hours, records each version, and has the faults of `laboratory`."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import laboratory as lab
import numpy as np

from convcast import grib
from convcast.conventions import pack
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.variables import FIELDS, STATIC

GRID = Grid(24, 32, 300, 800)
TYPICAL = {"refc": 10, "t2m": 295, "d2m": 285, "u10": 5, "v10": -3, "cape": 900, "cin": -80, "orog": 200, "lsm": 1}
NAMES = {variable.grib: name for name, variable in (FIELDS | STATIC).items()}
TOO_WARM = 100
"""Change of temperature, K, that quality control must reject."""

FAULTS = {
    "5xx": (".grib2", lab.status(503, Retry_After="0")),
    "5xx for an index": (".grib2.idx", lab.status(500)),
    "index not there yet": (".grib2.idx", lab.status(404)),
    "reset": (".grib2", lab.reset),
    "reset for an index": (".grib2.idx", lab.reset),
    "body cut short": (".grib2", lab.truncate),
    "broken off": (".grib2", lab.break_off),
    "stalled": (".grib2", lab.stall),
    "too short a body": (".grib2", lab.misjudge(0.5)),
    "too long a body": (".grib2", lab.misjudge(2)),
    "range ignored": (".grib2", lab.ignore_range),
    "web page": (".grib2", lab.page),
    "web page for an index": (".grib2.idx", lab.page),
}
"""Faults by name: the end of the paths that have the fault, and the answer; all faults are transient."""
REPLACED = "replaced under way"


@dataclass(frozen=True)
class Version:
    """One upload of an hour."""

    sha256: str
    """SHA-256 of the messages that an archive stores."""
    packed: np.ndarray
    """Fields as a dataset stores them, (field, y, x)."""


class Publisher:
    """Publishes to a bucket under `root`, whose server follows `script` (laboratory.faulty)."""

    def __init__(self, root: Path, first: np.datetime64) -> None:
        """Create an empty bucket; `first` is hour number 0."""
        self.root, self.first = root, first
        self.versions: dict[np.datetime64, list[Version]] = {}
        self.script = lab.Script()
        self.served: Counter[str] = Counter()
        """Number of faults that were served, by kind."""

    def publish(self, number: int, *, warmer: float = 0) -> None:
        """Upload an hour, or upload a changed version of it; `warmer` is added to temperatures, K."""
        init = self.first + number * HOUR
        earlier = self.versions.setdefault(init, [])
        generator = np.random.default_rng([1000 + number, len(earlier)])
        encoded, kept, packed = [], b"", {}
        for _, _, key in lab.ROWS:
            name = NAMES.get(key, "")
            values = np.full(GRID.shape, float(TYPICAL.get(name, 7)))
            if name in FIELDS:
                values += np.round(16 * generator.normal(size=GRID.shape)) / 16 + warmer * (name == "t2m")
                packed[name] = pack(FIELDS[name], values)
            encoded.append(grib.encode(values, key=key, grid=GRID, init=init, lead_hours=0, simulated=False))
            kept += encoded[-1] if name in FIELDS else b""
        earlier.append(Version(hashlib.sha256(kept).hexdigest(), np.stack([packed[name] for name in FIELDS])))
        path = lab.place(self.root, init)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, b"".join(encoded))
        _replace(path.with_name(f"{path.name}.idx"), lab.index(init, encoded).encode())

    def trouble(self, chance: random.Random, count: int) -> None:
        """Draw `count` faults for the next requests, in place of earlier ones."""
        rules = []
        for name in chance.sample([*FAULTS, REPLACED], count):
            ending, answer = FAULTS.get(name, (".grib2", self._replace_under_way))
            times = 1 if name in (REPLACED, "stalled") else chance.randint(1, 4)
            rules.append(lab.Rule(ending, self._counted(name, answer), times))
        self.script.rules = rules

    def _counted(self, name: str, answer: lab.Answer) -> lab.Answer:
        def fault(handler: lab.FaultyHandler) -> bool:
            self.served[name] += 1
            return answer(handler)

        return fault

    def _replace_under_way(self, handler: lab.FaultyHandler) -> bool:
        """Upload the hour again between the requests for its index and its data."""
        init = next(init for init in self.versions if handler.path.endswith(str(lab.place(Path("/"), init))))
        self.publish(int((init - self.first) / HOUR))
        return False


def _replace(path: Path, content: bytes) -> None:
    path.with_suffix(".part").write_bytes(content)
    path.with_suffix(".part").replace(path)
