"""From the archive to the dataset: decode, crop, judge, store, commit; only what is new.

Whatever may be done for several hours at once, by several processes, is in convcast.dataset.ingest. What depends on the
order of the hours is done here, and so is the commit record, which has one writer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from convcast.dataset.ingest import Hands, Placed, Source
from convcast.dataset.quality import compare_means
from convcast.dataset.statistics import histogram_means
from convcast.dataset.store import Description, Status, Store, describe_grid
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.files import lock, signature
from convcast.grid import Grid, parse_region
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import DatasetSettings
from convcast.variables import select
from convcast.workers import Pending, Pool, Workers, pool

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
    """Of work on its fields, wherever that was done."""
    share: float = 0.0
    """How much of the run is done with it, 0 to 1."""


def preprocess(
    archive: Archive,
    path: Path,
    *,
    settings: DatasetSettings,
    hours: Hours | None = None,
    workers: Workers | None = None,
) -> Iterator[HourVerdict]:
    """Bring the archived hours (of `hours` only, where given) that the dataset at `path` lacks into it.

    An hour that is damaged or implausible is rejected, one that the archive lacks between others is a gap; both may
    become ok when the archive has another file for it. Killed at any instant, the same call goes on. `workers`, which
    must see the same files under the same names, decode and write the fields; the dataset becomes the same without.

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
        if todo.size == 0:
            return
        store.sweep()
        store.reserve(todo[-1])
        sources = [_source(archive, store, valid) for valid in todo]
        with pool(workers) as hands_at_work:
            judged = _judge(store, hands_at_work, Hands(path.absolute(), rows, columns), sources, status)
            for number, verdict in enumerate(judged, 1):
                yield replace(verdict, share=number / todo.size)


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
        return bool(verdicts.get(valid, {}).get("file") != signature(archive.path(valid, _lead(store))))

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


def _source(archive: Archive, store: Store, valid: Hour) -> Source:
    file = archive.path(valid, _lead(store))
    return Source(valid, file.absolute(), archive.sidecar(file).sha256, signature(file))


def _judge(
    store: Store, pool: Pool, hands: Hands, sources: Sequence[Source], status: dict[Hour, Status]
) -> Iterator[HourVerdict]:
    """Have the hours put in their place, and commit them in order; `status` is kept up to date."""
    means: dict[Hour, Mapping[str, float]] = {}
    judged: deque[tuple[Source, Placed, list[Pending[float]]]] = deque()
    for source, found in zip(sources, pool.in_order(Hands.place, hands, sources), strict=True):
        valid, placed = source.valid, found
        if found.means is not None:
            means[valid] = found.means
            if status.get(valid - HOUR) == Status.OK:
                before = means.pop(valid - HOUR, None) or _means(store, valid - HOUR)
                placed = found.also(compare_means(found.means, before, store.description.variables))
        status[valid] = Status.REJECTED if placed.rejected else Status.OK
        known = [hour for hour in (valid, valid + HOUR) if status.get(hour - HOUR) == status.get(hour) == Status.OK]
        judged.append((source, placed, [pool.submit(Hands.count_changes, hands, hour) for hour in known]))
        while len(judged) > pool.ahead:
            yield _commit(store, *judged.popleft())
    while judged:
        yield _commit(store, *judged.popleft())


def _commit(store: Store, source: Source, placed: Placed, changes: Sequence[Pending[float]]) -> HourVerdict:
    seconds = placed.seconds + sum(change.result() for change in changes)
    status = Status.REJECTED if placed.rejected else Status.OK
    verdict = {
        "valid": str(source.valid),
        "status": status.name.lower(),
        "reason": placed.reason,
        "findings": [finding.to_dict() for finding in placed.findings],
        "file": source.signature,
    }
    store.write_status([source.valid], status, [verdict])
    return HourVerdict(source.valid, "rejected" if placed.rejected else "ok", placed.reason, seconds)


def _means(store: Store, valid: Hour) -> dict[str, float]:
    """The mean of each field of an hour, from its histogram."""
    variables = store.description.variables
    means = histogram_means(store.read_histogram(valid), variables)
    return {variable.name: float(mean) for variable, mean in zip(variables, means, strict=True)}


def _lead(store: Store) -> int:
    return store.description.analysis_lead
