"""The simulated publisher: hours of the simulated world as GRIB2 with indexes, in the HRRR bucket's layout.

Files hold HRRR's messages in HRRR's order, with two that must not be taken for others: temperature of the ground and
CAPE of the most unstable of the lowest layers. Each message says that it is simulated (code table 1.3).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast import grib
from convcast.archive import locations
from convcast.archive.simulated.observation import FIELDS as SIMULATED
from convcast.archive.simulated.world import State, World
from convcast.errors import DamagedFileError
from convcast.files import read_json, write_bytes, write_json
from convcast.grid import REGIONS, Grid
from convcast.notation import HOUR, Hour, compact, parse_hour
from convcast.settings import SimulationSettings
from convcast.variables import D2M, FIELDS, LAND, TERRAIN, GribKey

WORLD_FILE = "world.json"
LOOK_BACK = 12
"""Hours before the first one asked for that are published with it: workers do not ask in order."""
MAX_RUN_HOURS = 24 * 14
"""Hours that are simulated one by one; beyond, the world is entered afresh."""

_GROUND = GribKey(0, 0, 0, 1, 0)
_LAYER = GribKey(0, 7, 6, 108, 18000)
ORDER: tuple[tuple[str, str, str, GribKey], ...] = tuple(
    [("refc", "REFC", "entire atmosphere", FIELDS["refc"].grib), ("orog", "HGT", "surface", TERRAIN.grib)]
    + [("ground", "TMP", "surface", _GROUND)]
    + [(name, FIELDS[name].index_name, FIELDS[name].index_level, FIELDS[name].grib) for name in SIMULATED[1:]]
    + [("layer", "CAPE", "180-0 mb above ground", _LAYER), ("lsm", "LAND", "surface", LAND.grib)]
)
"""Name, index columns and GRIB key of a file's messages, first to last; HRRR's files are ordered so."""


def simulated_grid(size: int) -> Grid:
    """The simulated world's part of the HRRR grid, `size` points along each side."""
    y0, _, x0, _ = REGIONS["southern-plains"]
    return Grid(size, size, y0, x0, periodic=True)


class Publisher:
    """Writes the files of an hour when they are first asked for; the same hour is the same bytes in any order."""

    def __init__(self, root: Path, settings: SimulationSettings) -> None:
        """Raises DamagedFileError where `root` holds another world's files."""
        self.root = root
        self.first = parse_hour(settings.start)
        self.last = self.first + (settings.days * 24 - 1) * HOUR
        self.grid = simulated_grid(settings.size)
        self._world = World(settings.size, settings.size, settings.seed)
        self._lock = threading.Lock()
        self._run: Iterator[tuple[Hour, State]] = iter(())
        self._next: Hour | None = None
        self._fixed: dict[str, bytes] = {}
        self._claim(settings)

    def publish(self, name: str) -> None:
        """Make sure that this file of the bucket is there, if it is of an hour that the world has."""
        asked = locations.parse_path(name.removesuffix(locations.INDEX_SUFFIX))
        if asked is None or not self.first <= asked.valid <= self.last:
            return
        if asked == locations.hrrr(asked.init, 1):
            self._publish_ahead(asked.init)
            return
        if asked != locations.hrrr(asked.init, 0):
            return
        with self._lock:
            if self._published(asked.init):
                return
            if self._next is None or not asked.init - MAX_RUN_HOURS * HOUR <= self._next <= asked.init:
                self._next = max(self.first, asked.init - LOOK_BACK * HOUR)
                hours = int((self.last - self._next) / HOUR) + 1
                self._run = self._world.nature_run(self._next, hours)
            while self._next <= asked.init:
                time, state = next(self._run)
                if not self._published(time):
                    self._write(time, self._world.observe(state, time))
                self._next = time + HOUR

    def _publish_ahead(self, init: Hour) -> None:
        """The one-hour forecast of this cycle, which holds the dewpoint of the hour after alone, and is right."""
        analysis = self._path(init + HOUR)
        self.publish(locations.archive_path(locations.hrrr(init + HOUR, 0)).as_posix())
        path = self.root / locations.archive_path(locations.hrrr(init, 1))
        with self._lock:
            if _index_path(path).is_file():
                return
            for message in grib.read_messages(analysis):
                if message.header.key == D2M.grib:
                    data = self._encode(message.decode(), D2M.grib, init, lead=1)
            write_bytes(path, data)
            row = f"1:0:d={compact(init).replace('T', '')}:{D2M.index_name}:{D2M.index_level}:1 hour fcst:\n"
            write_bytes(_index_path(path), row.encode())

    def _claim(self, settings: SimulationSettings) -> None:
        """Write down which world this is, for those who want its exact ensemble."""
        path = self.root / WORLD_FILE
        mine: dict[str, Any] = {
            "size": settings.size,
            "seed": settings.seed,
            "start": settings.start,
            "days": settings.days,
        }
        if path.is_file():
            there = read_json(path)
            if (there.get("size"), there.get("seed")) != (settings.size, settings.seed):
                raise DamagedFileError(
                    f"{self.root} is the simulated world of size {there.get('size')} and seed {there.get('seed')}",
                    advice="choose another --workspace, or those settings again",
                )
            if there == mine:
                return
        write_json(path, mine)

    def _path(self, time: Hour) -> Path:
        return self.root / locations.archive_path(locations.hrrr(time, 0))

    def _published(self, time: Hour) -> bool:
        return _index_path(self._path(time)).is_file()

    def _write(self, time: Hour, fields: Mapping[str, NDArray[np.floating]]) -> None:
        rows, messages, offset = [], [], 0
        cycle = str(time).replace("-", "").replace("T", "")
        for number, (name, index_name, level, key) in enumerate(ORDER, 1):
            if name in SIMULATED:
                message = self._encode(fields[name][0], key, time)
            else:
                message = _redate(self._unchanging(name, key), time)
            rows.append(f"{number}:{offset}:d={cycle}:{index_name}:{level}:anl:\n")
            messages.append(message)
            offset += len(message)
        path = self._path(time)
        write_bytes(path, b"".join(messages))
        write_bytes(_index_path(path), "".join(rows).encode())

    def _encode(self, values: NDArray[np.floating], key: GribKey, time: Hour, lead: int = 0) -> bytes:
        return grib.encode(values, key=key, grid=self.grid, init=time, lead_hours=lead, simulated=True)

    def _unchanging(self, name: str, key: GribKey) -> bytes:
        """A message that is the same at all hours, but for its date."""
        if name not in self._fixed:
            values = {
                TERRAIN.name: self._world.terrain,
                LAND.name: self._world.land,
                "ground": np.full(self.grid.shape, 295.0),
                "layer": np.full(self.grid.shape, 1500.0),
            }[name]
            self._fixed[name] = self._encode(values, key, self.first)
        return self._fixed[name]


def _redate(message: bytes, time: Hour) -> bytes:
    """The message with another reference time: octets 13 to 16 of section 1, which begins at octet 17."""
    date, hour = str(time).split("T")
    year, month, day = (int(part) for part in date.split("-"))
    return message[:28] + year.to_bytes(2, "big") + bytes((month, day, int(hour))) + message[33:]


def _index_path(path: Path) -> Path:
    return path.with_name(path.name + locations.INDEX_SUFFIX)
