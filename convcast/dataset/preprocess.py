"""From the archive to the dataset: decode, crop, judge, store, commit; one hour after the other, only what is new."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.quality import Finding, examine
from convcast.dataset.statistics import histogram_means
from convcast.dataset.store import Description, Status, Store, describe_grid
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.files import lock, sha256
from convcast.grid import Grid, parse_region
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import DatasetSettings
from convcast.variables import Variable, select

if TYPE_CHECKING:
    from convcast.archive import Archive


@dataclass(frozen=True)
class HourVerdict:
    """What became of an hour."""

    valid: Hour
    status: Literal["ok", "gap", "rejected"]
    reason: str
    """Why it is not ok, or what is odd about it; empty where nothing is."""
    seconds: float
    share: float = 0.0
    """How much of the run is done with it, 0 to 1."""


def preprocess(
    archive: Archive, path: Path, *, settings: DatasetSettings, hours: Hours | None = None
) -> Iterator[HourVerdict]:
    """Bring the archived hours (of `hours` only, where given) that the dataset at `path` lacks into it.

    An hour that is damaged or implausible is rejected, one that the archive lacks between others is a gap; both may
    become ok when the archive has another file for it. Killed at any instant, the same call goes on.

    Raises MissingInputError where the archive has no such hour or no static fields, DamagedFileError where the dataset
    is of other fields, another grid, analysis lead or world, LockedError where another run is at it.
    """
    archived = archive.hours(settings.analysis_lead)
    wanted = archived if hours is None else np.intersect1d(archived, hours)
    if wanted.size == 0:
        raise MissingInputError(
            f"the archive holds no {'such ' if hours is not None else ''}hour of lead {settings.analysis_lead}",
            advice="run `convcast fetch --days 14`, or set dataset.analysis_lead",
        )
    with lock(path.parent / "locks" / f"{path.name}.lock", f"preprocessing {path}"):
        rows, columns, store = _prepare(archive, path, settings)
        times, codes = store.read_status()
        status = {hour: Status(code) for hour, code in zip(times, codes, strict=True)}
        yield from _note_gaps(store, archived, wanted, status)
        todo = _todo(archive, store, wanted, status)
        if todo.size:
            store.sweep()
        for number, valid in enumerate(todo, 1):
            started = time.perf_counter()
            verdict = _judge(archive, store, valid, rows, columns, status)
            seconds = time.perf_counter() - started
            yield HourVerdict(valid, verdict["status"], verdict["reason"], seconds, number / todo.size)


def _prepare(archive: Archive, path: Path, settings: DatasetSettings) -> tuple[slice, slice, Store]:
    """The rows and columns to keep of the archive's grid, and the dataset, made where there is none."""
    if not path.exists():
        return _begin(archive, path, settings)
    store = Store.open(path, writing=True)
    whole, simulated = store.archived_grid, archive.simulated
    rows, columns = _crop(whole, settings.region)
    wanted = Description(
        select(settings.fields),
        whole.crop(rows, columns),
        store.description.simulated if simulated is None else simulated,
        settings.analysis_lead,
    )
    difference = store.description.difference(wanted)
    if difference is not None:
        raise DamagedFileError(f"{path} {difference}", advice=f"use another --workspace, or delete {path}")
    return rows, columns, store


def _begin(archive: Archive, path: Path, settings: DatasetSettings) -> tuple[slice, slice, Store]:
    from convcast.dataset.decode import decode_static

    if not archive.static.exists():
        raise MissingInputError("the archive has no terrain and land mask", advice="run `convcast fetch --days 1`")
    whole = decode_static(archive.static)
    rows, columns = _crop(whole.grid, settings.region)
    static = whole.crop(rows, columns)
    if np.isnan(static.values).any():
        raise DamagedFileError(
            f"{archive.static} has missing values", advice=f"delete {archive.static} and fetch again"
        )
    description = Description(select(settings.fields), static.grid, static.simulated, settings.analysis_lead)
    return rows, columns, Store.create(path, description, static.values, archived=whole.grid)


def _crop(grid: Grid, region: str) -> tuple[slice, slice]:
    """The rows and columns of `grid` that lie in the region."""
    rows, columns = parse_region(region)
    y0, y1 = max(rows.start, grid.y0), min(rows.stop, grid.y0 + grid.ny)
    x0, x1 = max(columns.start, grid.x0), min(columns.stop, grid.x0 + grid.nx)
    if y0 >= y1 or x0 >= x1:
        raise SettingsError(
            f"the region {region} is outside the archive's {describe_grid(grid)}", advice="choose another --region"
        )
    return slice(y0 - grid.y0, y1 - grid.y0), slice(x0 - grid.x0, x1 - grid.x0)


def _todo(archive: Archive, store: Store, archived: Hours, status: dict[Hour, Status]) -> Hours:
    """The archived hours that are new, or were rejected and have since been fetched again."""
    verdicts = store.read_verdicts() if Status.REJECTED in status.values() else {}

    def again(valid: Hour) -> bool:
        return bool(verdicts.get(valid, {}).get("file") != _signature(archive.path(valid, _lead(store))))

    return np.array(
        [
            valid
            for valid in archived
            if status.get(valid, Status.ABSENT) in (Status.ABSENT, Status.GAP)
            or (status[valid] == Status.REJECTED and again(valid))
        ],
        "datetime64[h]",
    )


def _note_gaps(store: Store, archived: Hours, wanted: Hours, status: dict[Hour, Status]) -> Iterator[HourVerdict]:
    """Hours between the first and the last known or wanted that are in neither the dataset nor the archive."""
    ends = np.array([*wanted[[0, -1]], *([min(status), max(status)] if status else [])])
    every = np.arange(ends.min(), ends.max() + HOUR)
    unknown = np.array([hour for hour in every if status.get(hour, Status.ABSENT) == Status.ABSENT], "datetime64[h]")
    gaps = np.setdiff1d(unknown, archived)
    if gaps.size:
        reason = "not in the archive"
        store.write_status(gaps, Status.GAP, [{"valid": str(gap), "status": "gap", "reason": reason} for gap in gaps])
        yield from (HourVerdict(gap, "gap", reason, 0.0) for gap in gaps)


def _judge(
    archive: Archive, store: Store, valid: Hour, rows: slice, columns: slice, status: dict[Hour, Status]
) -> dict[str, Any]:
    """Decode, examine and commit one hour; `status` is kept up to date."""
    file = archive.path(valid, _lead(store))
    signature = _signature(file)
    before = _means(store, valid - HOUR) if status.get(valid - HOUR) == Status.OK else None
    fields = None
    findings: list[Finding] = []
    try:
        fields = _load(archive, file, store.description, valid, rows, columns)
        findings = examine(fields, store.description.variables, before=before)
        reason = "; ".join(str(finding) for finding in findings)
        status[valid] = Status.REJECTED if any(finding.rejects for finding in findings) else Status.OK
    except DamagedFileError as error:
        reason = str(error)
        status[valid] = Status.REJECTED
    verdict = {
        "valid": str(valid),
        "status": status[valid].name.lower(),
        "reason": reason,
        "findings": [finding.to_dict() for finding in findings],
        "file": signature,
    }
    if fields is not None and status[valid] == Status.OK:
        beside = [hour for hour in (valid - HOUR, valid + HOUR) if status.get(hour) == Status.OK]
        store.write_hour(valid, fields, neighbours=beside)
    store.write_status([valid], status[valid], [verdict])
    return verdict


def _load(
    archive: Archive, file: Path, description: Description, valid: Hour, rows: slice, columns: slice
) -> NDArray[np.float32]:
    from convcast.dataset.decode import decode_hour

    if sha256(file) != archive.sidecar(file).sha256:
        raise DamagedFileError(f"{file.name} is not what was fetched: its checksum differs from its sidecar's")
    fields = decode_hour(file, valid=valid, lead=description.analysis_lead, variables=description.variables)
    if fields.simulated != description.simulated:
        raise DamagedFileError(f"{file.name} is {'simulated' if fields.simulated else 'real'}, unlike the dataset")
    place = fields.grid.crop(rows, columns)
    if place != description.grid:
        raise DamagedFileError(f"{file.name} is on another grid ({describe_grid(fields.grid)})")
    return fields.crop(rows, columns).values


def _means(store: Store, valid: Hour) -> dict[str, float]:
    """The mean of each field of an hour, from its histogram."""
    variables: tuple[Variable, ...] = store.description.variables
    means = histogram_means(store.read_histogram(valid), variables)
    return {variable.name: float(mean) for variable, mean in zip(variables, means, strict=True)}


def _signature(file: Path) -> list[int]:
    """Tells a file from a later one of the same name without reading it."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]


def _lead(store: Store) -> int:
    return store.description.analysis_lead
