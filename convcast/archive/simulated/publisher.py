"""Publish hours of the simulated world as GRIB2 files with indexes, in the layout of HRRR's bucket.

The files hold HRRR's messages in HRRR's order, and two that resemble requested ones: the temperature of the ground, and
the CAPE of the lowest layers. Each message is marked as simulated (code table 1.3). Forecasts (f01 to f18) are those of
the publisher's own model, which starts from the published analysis. Radar scans (`scans`) are made of the analysis, and
HRRRCast's files (`hrrrcast`) of the model's ensemble.
"""

from __future__ import annotations

import dataclasses
import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from convcast import __version__, grib
from convcast.archive import locations
from convcast.archive.locations import GribFile
from convcast.archive.messages.index import forecast
from convcast.archive.reference_ensembles import HRRRCAST_MEMBERS, hrrrcast_longest
from convcast.archive.simulated import hrrrcast
from convcast.archive.simulated.forecast_model import LONGEST_LEAD, ForecastModel
from convcast.archive.simulated.hrrrcast import MessageRow, message_row
from convcast.archive.simulated.observation import FIELDS as SIMULATED
from convcast.archive.simulated.scans import hour_of, make_scan, scan_path
from convcast.archive.simulated.spectra import Array
from convcast.archive.simulated.world import State, World
from convcast.errors import DamagedFileError
from convcast.files import read_json, write_bytes, write_json
from convcast.grid import REGIONS, Grid
from convcast.notation import HOUR, Hour, compact, parse_hour
from convcast.settings import SimulationSettings
from convcast.variables import FIELDS, LAND, TERRAIN, GribKey, select

WORLD_FILE = "world.json"
STATE_FILE = "state.npz"
"""File with the state of the last hour that was simulated, from which a later run goes on."""
LOOK_BACK = 12
"""Hours before the first requested one that are published with it, since workers request hours out of order."""
MAX_RUN_HOURS = 24 * 14
"""Maximum number of hours that are simulated to reach a requested hour; beyond a longer gap, a new run starts."""
FORECASTS_AT_HAND = 48
"""Number of cycles whose forecasts can be continued without starting again, since leads are requested hour by hour."""

_GROUND = GribKey(0, 0, 0, 1, 0)
_LAYER = GribKey(0, 7, 6, 108, 18000)
ORDER: tuple[MessageRow, ...] = (
    message_row(FIELDS["refc"]),
    message_row(TERRAIN),
    ("ground", "TMP", "surface", _GROUND),
    *map(message_row, select(SIMULATED[1:])),
    ("layer", "CAPE", "180-0 mb above ground", _LAYER),
    message_row(LAND),
)
"""Messages of a file, in the order of HRRR's files."""


def simulated_grid(size: int) -> Grid:
    """Part of the HRRR grid that the simulated world covers, with `size` points along each side."""
    y0, _, x0, _ = REGIONS["southern-plains"]
    return Grid(size, size, y0, x0, periodic=True)


class Publisher:
    """Writes each file when it is first requested; its bytes do not depend on the order of requests."""

    def __init__(self, root: Path, settings: SimulationSettings) -> None:
        """Raises DamagedFileError if `root` holds the files of another world."""
        self.root = root
        self.first = parse_hour(settings.start)
        self.last = self.first + (settings.days * 24 - 1) * HOUR
        self.grid = simulated_grid(settings.size)
        self._seed = settings.seed
        self._world = World(settings.size, settings.size, settings.seed)
        self._lock = threading.Lock()
        self._run: Iterator[tuple[Hour, State]] = iter(())
        self._last: tuple[Hour, State] | None = None
        self._next: Hour | None = None
        self._fixed: dict[tuple[str, int], bytes] = {}
        self._forecasts: OrderedDict[tuple[str, Hour], tuple[int, Iterator[dict[str, Array]]]] = OrderedDict()
        self._claim(settings)

    def publish(self, name: str) -> None:
        """Write this file of the bucket if it does not exist yet and its hour is published.

        The name may also be a prefix with which a list of scans is requested.
        """
        scanned = hour_of(name)
        if scanned is not None and self.first <= scanned <= self.last:
            with self._lock:
                self._publish_scan(scanned)
            return
        file = locations.parse_path(name.removesuffix(locations.INDEX_SUFFIX))
        if file is None or not self.first <= file.init <= self.last:
            return
        if file == locations.hrrr(file.init, file.lead) and file.lead <= LONGEST_LEAD:
            with self._lock:
                self._publish_analysis(file.init)
                if file.lead > 0:
                    self._publish_forecast(file.init, file.lead)
        elif file.model == "hrrrcast" and 0 < file.lead <= hrrrcast_longest(file.init):
            with self._lock:
                self._publish_hrrrcast(file)

    def _publish_scan(self, hour: Hour) -> None:
        path = self.root / scan_path(hour)
        if not path.is_file():
            self._publish_analysis(hour)
            write_bytes(path, make_scan(self._published(hour)["refc"], self.grid, hour, self._seed))

    def keep_state(self) -> None:
        """Save the state of the last simulated hour; else the next run would begin weeks before its first hour."""
        with self._lock:
            if self._last is None:
                return
            time, state = self._last
            data = io.BytesIO()
            np.savez(data, hour=np.int64(time.astype(np.int64)), version=__version__, **vars(state))
            write_bytes(self.root / STATE_FILE, data.getvalue())

    def _kept_state(self) -> tuple[Hour, State] | None:
        """Read what `keep_state` wrote; None if there is none that this version can use."""
        names = [field.name for field in dataclasses.fields(State)]
        try:
            with np.load(io.BytesIO((self.root / STATE_FILE).read_bytes()), allow_pickle=False) as kept:
                if str(kept["version"]) != __version__:
                    return None
                arrays = {name: np.asarray(kept[name], np.float64) for name in names}
                hour = np.datetime64(int(kept["hour"]), "h")
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        whole = (1, *self.grid.shape)
        if any(array.shape != (whole if name != "mean_wind" else (1, 2)) for name, array in arrays.items()):
            return None
        sound = hour >= self.first and all(np.isfinite(array).all() for array in arrays.values())
        return (hour, State(**arrays)) if sound else None

    @cached_property
    def _model(self) -> ForecastModel:
        return ForecastModel(self.grid.ny, self.grid.nx, self._seed)

    def _publish_analysis(self, init: Hour) -> None:
        """Write the analysis of this hour, and those between it and the last hour of the current run."""
        if self._is_there(locations.hrrr(init, 0)):
            return
        if self._next is None or not init - MAX_RUN_HOURS * HOUR <= self._next <= init:
            kept = self._kept_state()
            state = None if kept is None or not init - MAX_RUN_HOURS * HOUR <= kept[0] <= init else kept[1]
            self._next = max(self.first, init - LOOK_BACK * HOUR) if kept is None or state is None else kept[0]
            hours = int((self.last - self._next) / HOUR) + 1
            self._run = self._world.nature_run(self._next, hours, state=state)
        while self._next <= init:
            time, state = self._last = next(self._run)
            if not self._is_there(locations.hrrr(time, 0)):
                self._write(locations.hrrr(time, 0), ORDER, self._world.observe(state, time))
            self._next = time + HOUR

    def _publish_forecast(self, init: Hour, lead: int) -> None:
        """Write one lead (hours) of this cycle's forecast, whose analysis must be published."""
        if self._is_there(locations.hrrr(init, lead)):
            return
        self._write(locations.hrrr(init, lead), ORDER, self._continue("hrrr", init, lead))

    def _publish_hrrrcast(self, file: GribFile) -> None:
        """Write all files of HRRRCast of this file's cycle and lead, if the cycle is published."""
        delay = round(locations.EXTRA_DELAY_HOURS["hrrrcast"])
        if self._is_there(file) or file.init + delay * HOUR > self.last:
            return
        self._publish_analysis(file.init)
        members = self._continue("hrrrcast", file.init, file.lead)
        for one, fields in hrrrcast.files_of_lead(members, file.init, file.lead):
            self._write(one, hrrrcast.ORDER, {name: values[None] for name, values in fields.items()})

    def _continue(self, model: str, init: Hour, lead: int) -> dict[str, Array]:
        """Continue a model's forecast to a lead (hours), and return its fields, (member, ny, nx)."""
        done, run = self._forecasts.pop((model, init), (0, iter(())))
        if done == 0 or done >= lead:
            analysis = self._published(init)
            whole = model == "hrrrcast"
            run = (
                self._model.run_ensemble(analysis, init, HRRRCAST_MEMBERS) if whole else self._model.run(analysis, init)
            )
            done = 0
        for _ in range(lead - done):
            fields = next(run)
        self._forecasts[model, init] = lead, run
        while len(self._forecasts) > FORECASTS_AT_HAND:
            self._forecasts.popitem(last=False)
        return fields

    def _published(self, init: Hour) -> dict[str, Array]:
        """Return the fields of a published analysis, (ny, nx), as its file has them."""
        names = {key: name for name, _, _, key in ORDER if name in SIMULATED}
        return {
            names[message.header.key]: message.decode().astype(np.float64)
            for message in grib.read_messages(self._path(locations.hrrr(init, 0)))
            if message.header.key in names
        }

    def _claim(self, settings: SimulationSettings) -> None:
        """Record the size and seed of the world, which its exact ensemble needs."""
        path = self.root / WORLD_FILE
        world = settings.model_dump()
        if path.is_file():
            recorded = read_json(path)
            size, seed = recorded.get("size"), recorded.get("seed")
            if (size, seed) != (settings.size, settings.seed):
                raise DamagedFileError(
                    f"{self.root} is the simulated world of size {size} and seed {seed}",
                    advice="choose another --workspace, or those settings again",
                )
            if recorded == world:
                return
        write_json(path, world)

    def _path(self, file: GribFile) -> Path:
        place = locations.archive_path if file.model == "hrrr" else locations.bucket_path
        return self.root / place(file)

    def _is_there(self, file: GribFile) -> bool:
        return _index_path(self._path(file)).is_file()

    def _write(
        self,
        file: GribFile,
        order: Sequence[tuple[str, str, str, GribKey]],
        fields: Mapping[str, NDArray[np.floating]],
    ) -> None:
        """Write a file, then its index.

        Args:
            file: File of HRRR or HRRRCast.
            order: Name, index columns and GRIB key of its messages.
            fields: Fields by name, (1, ny, nx); constants are added.
        """
        rows, messages, offset = [], [], 0
        for number, (name, index_name, level, key) in enumerate(order, 1):
            if name in fields:
                message = self._encode(fields[name][0], key, file.init, file.lead)
            else:
                message = _redate(self._constant(name, key, file.lead), file.init)
            rows.append(_index_row(number, offset, file.init, index_name, level, file.lead))
            messages.append(message)
            offset += len(message)
        path = self._path(file)
        write_bytes(path, b"".join(messages))
        write_bytes(_index_path(path), "".join(rows).encode())

    def _encode(self, values: NDArray[np.floating], key: GribKey, time: Hour, lead: int = 0) -> bytes:
        return grib.encode(values, key=key, grid=self.grid, init=time, lead_hours=lead, simulated=True)

    def _constant(self, name: str, key: GribKey, lead: int) -> bytes:
        """Return a message of values that never change, as encoded for the first hour."""
        if (name, lead) not in self._fixed:
            values = {
                TERRAIN.name: self._world.terrain,
                LAND.name: self._world.land,
                "ground": np.full(self.grid.shape, 295.0),
                "layer": np.full(self.grid.shape, 1500.0),
                "height": np.full(self.grid.shape, 5800.0),
                "t850": np.full(self.grid.shape, 290.0),
                "u80": np.full(self.grid.shape, 9.0),
            }[name]
            self._fixed[name, lead] = self._encode(values, key, self.first, lead)
        return self._fixed[name, lead]


def _redate(message: bytes, time: Hour) -> bytes:
    """Return the message with another reference time (octets 13 to 16 of section 1, which begins at octet 17)."""
    date, hour = str(time).split("T")
    year, month, day = (int(part) for part in date.split("-"))
    return message[:28] + year.to_bytes(2, "big") + bytes((month, day, int(hour))) + message[33:]


def _index_row(number: int, offset: int, init: Hour, name: str, level: str, lead: int = 0) -> str:
    return f"{number}:{offset}:d={compact(init).replace('T', '')}:{name}:{level}:{forecast(lead)}:\n"


def _index_path(path: Path) -> Path:
    return path.with_name(path.name + locations.INDEX_SUFFIX)
