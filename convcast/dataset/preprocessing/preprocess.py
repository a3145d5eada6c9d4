"""Preprocess the archive into the dataset: decode, crop, check, store and commit the hours that are new.

The work on single hours, which several processes may share, is in the module `ingest`. This module does what depends on
the order of the hours, and writes the commit record, which has a single writer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.layout import DatasetDescription, HourStatus, describe_grid
from convcast.dataset.preprocessing.ingest import ArchivedFile, ArchivedHour, HourIngester, IngestedHour
from convcast.dataset.preprocessing.quality import compare_means
from convcast.dataset.preprocessing.repair import lost_hours, repair
from convcast.dataset.statistics import histogram_means
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.files import lock, signature
from convcast.grid import Grid, parse_region
from convcast.notation import HOUR, Hour, Hours, consecutive
from convcast.settings import DatasetSettings
from convcast.variables import LAND, STATIC, TERRAIN, by_lead, select
from convcast.workers import Pool, Workers, pool

if TYPE_CHECKING:
    from convcast.archive import Archive
    from convcast.dataset.preprocessing.decode import DecodedFields


@dataclass(frozen=True)
class HourVerdict:
    """Outcome of preprocessing for an hour, or for a range of consecutive gaps."""

    valid: Hour
    """The hour, or the first hour of the range."""
    status: Literal["ok", "gap", "rejected"]
    reason: str
    """Reason why the hour is not ok, or its warnings; empty if there are none."""
    seconds: float
    """Time spent on the fields, in this process or a worker, seconds."""
    share: float = 0.0
    """Fraction of the run that is complete after this hour, 0 to 1."""
    last: Hour | None = None
    """The last hour of the range; None for a single hour."""

    @property
    def hours(self) -> int:
        """Number of hours in the range."""
        return 1 if self.last is None else int((self.last - self.valid) / HOUR) + 1


def preprocess(
    archive: Archive,
    path: Path,
    *,
    settings: DatasetSettings,
    hours: Hours | None = None,
    workers: Workers | None = None,
    verify: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[HourVerdict]:
    """Add the archived hours that the dataset lacks to it, and yield the outcome of each.

    An hour whose file is damaged or whose fields are implausible is rejected; an hour that the archive lacks between
    others is a gap. Both may become ok once the archive has another file. Files that the dataset has lost are restored:
    hours without fields are taken from the archive again, and become gaps if it no longer has them. If the call is
    interrupted at any point, the same call continues it.

    Args:
        archive: The archive to read.
        path: The dataset's Zarr store, created if absent.
        settings: Fields, region and analysis lead of the dataset.
        hours: Valid times to consider; by default all archived hours.
        workers: Processes that decode and write the fields; they must see the same files under the same paths. The
            dataset is the same with and without them.
        verify: Read all files of the dataset, instead of only those that changed since their hour was committed.
        tell: Called with a sentence for each repair.

    Raises:
        MissingInputError: The archive has none of the hours, or no static fields.
        DamagedFileError: The dataset has other fields, another grid or analysis lead, or mixes simulated and real.
        LockedError: Another run is writing the dataset.
    """
    archived = archive.hours(*settings.leads)
    requested = archived if hours is None else np.intersect1d(archived, hours)
    if requested.size == 0:
        leads = " and ".join(map(str, settings.leads))
        raise MissingInputError(
            f"the archive holds no {'such ' if hours is not None else ''}hour of lead {leads}",
            advice="run `convcast fetch --days 14`",
        )
    with lock(path.parent / "locks" / f"{path.name}.lock", f"preprocessing {path}"):
        rows, columns, store = _prepare(archive, path, settings, tell)
        times, codes = store.read_status()
        status = {hour: HourStatus(code) for hour, code in zip(times, codes, strict=True)}
        verdicts = store.read_verdicts()
        lost, uncounted = lost_hours(store, status, verdicts, read=verify)
        reason = "its fields are lost, and the archive does not have it any more"
        yield from _gaps(store, np.setdiff1d(lost, archived), reason, status)
        yield from _note_gaps(store, archived, requested, status)
        restored = np.intersect1d(lost, archived)
        todo = np.union1d(_todo(archive, store, requested, status, verdicts), restored)
        if restored.size:
            count, first = restored.size, restored[0]
            tell(f"{count} hours lost their fields and are taken from the archive again, the first is {first}")
        status |= dict.fromkeys(restored, HourStatus.ABSENT)
        recount = [hour for hour in uncounted if status.get(hour - HOUR) == HourStatus.OK]
        if todo.size == 0 and not recount:
            return
        store.sweep()
        if todo.size:
            store.reserve(todo[-1])
        sources = [_source(archive, store, valid) for valid in todo]
        ingester = HourIngester(path.absolute(), rows, columns, settings.max_missing_points)
        with pool(workers) as worker_pool:
            for _ in worker_pool.in_order(HourIngester.count_changes, ingester, recount):
                pass
            judged = _judge(store, worker_pool, ingester, sources, status)
            for number, verdict in enumerate(judged, 1):
                yield replace(verdict, share=number / todo.size)
        if workers is not None:
            store.sweep()  # a worker that died may have left the file that it was writing


def _prepare(
    archive: Archive, path: Path, settings: DatasetSettings, tell: Callable[[str], None]
) -> tuple[slice, slice, Store]:
    """Return the rows and columns of the archive's grid to keep, and the dataset, created or repaired if necessary."""
    if not path.exists():
        return _begin(archive, path, settings)

    def read_static(description: DatasetDescription) -> NDArray[np.float32]:
        static, (y0, x0) = _read_static(archive, settings), (description.grid.y0, description.grid.x0)
        rows, columns = (slice(start, start + n) for start, n in zip((y0, x0), description.grid.shape, strict=True))
        return static.crop(*_within(static.grid, rows, columns)).values

    repaired = repair(path, read_static)
    if repaired:
        tell(f"{path} had lost {', '.join(repaired)}, which was rebuilt from the remaining files")
    store = Store.open(path, writing=True)
    archived_grid, simulated = store.archived_grid, archive.simulated
    rows, columns = _crop(archived_grid, settings.region)
    expected = DatasetDescription(
        select(settings.fields),
        archived_grid.crop(rows, columns),
        store.description.simulated if simulated is None else simulated,
        settings.analysis_lead,
        settings.dewpoint,
    )
    difference = store.description.difference(expected)
    if difference is not None:
        raise DamagedFileError(f"{path} {difference}", advice=f"use another --workspace, or delete {path}")
    return rows, columns, store


def _begin(archive: Archive, path: Path, settings: DatasetSettings) -> tuple[slice, slice, Store]:
    archived = _read_static(archive, settings)
    rows, columns = _crop(archived.grid, settings.region)
    static = archived.crop(rows, columns)
    description = DatasetDescription(
        select(settings.fields), static.grid, static.simulated, settings.analysis_lead, settings.dewpoint
    )
    return rows, columns, Store.create(path, description, static.values, archived=archived.grid)


def _read_static(archive: Archive, settings: DatasetSettings) -> DecodedFields:
    """Decode the terrain and land mask of the archive, or make those of flat land."""
    from convcast.dataset.preprocessing.decode import decode_static

    if settings.ground == "flat":
        return _flat_land(archive, settings)
    if not archive.static.exists():
        raise MissingInputError(
            "the archive has no terrain and land mask",
            advice="run `convcast fetch --days 1`, or `convcast preprocess --set dataset.ground=flat`",
        )
    static = decode_static(archive.static)
    if np.isnan(static.values).any():
        raise DamagedFileError(
            f"{archive.static} has missing values", advice=f"delete {archive.static} and fetch again"
        )
    return static


def _flat_land(archive: Archive, settings: DatasetSettings) -> DecodedFields:
    """Make the terrain and land mask of flat land on the grid of the earliest hour that can be decoded.

    Raises:
        DamagedFileError: No hour can be decoded.
    """
    from convcast.dataset.preprocessing.decode import DecodedFields, decode_hour

    problem: DamagedFileError | None = None
    lead, variables = next(iter(by_lead(select(settings.fields), settings.analysis_lead, settings.dewpoint).items()))
    for valid in archive.hours(*settings.leads):
        try:
            decoded = decode_hour(archive.path(valid, lead), valid=valid, lead=lead, variables=variables)
        except DamagedFileError as error:
            problem = problem or error
            continue
        flat = {TERRAIN: 0.0, LAND: 1.0}
        values = np.stack([np.full(decoded.grid.shape, flat[variable], np.float32) for variable in STATIC.values()])
        return DecodedFields(values, decoded.grid, decoded.simulated)
    assert problem is not None
    raise problem


def _crop(grid: Grid, region: str) -> tuple[slice, slice]:
    """Return the rows and columns of `grid` that lie in the region."""
    rows, columns = _within(grid, *parse_region(region))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise SettingsError(
            f"the region {region} is outside the archive's {describe_grid(grid)}", advice="choose another --region"
        )
    return rows, columns


def _within(grid: Grid, rows: slice, columns: slice) -> tuple[slice, slice]:
    """Convert rows and columns of the HRRR grid to those of `grid`, clipped to it."""
    y0, y1 = max(rows.start, grid.y0), min(rows.stop, grid.y0 + grid.ny)
    x0, x1 = max(columns.start, grid.x0), min(columns.stop, grid.x0 + grid.nx)
    return slice(y0 - grid.y0, y1 - grid.y0), slice(x0 - grid.x0, x1 - grid.x0)


def _todo(
    archive: Archive,
    store: Store,
    archived: Hours,
    status: Mapping[Hour, HourStatus],
    verdicts: Mapping[Hour, Mapping[str, Any]],
) -> Hours:
    """Return the archived hours that are new, or were rejected and have been fetched again since."""

    def again(valid: Hour) -> bool:
        now = [number for lead in store.description.leads for number in signature(archive.path(valid, lead))]
        return bool(verdicts.get(valid, {}).get("file") != now)

    return np.array(
        [
            valid
            for valid in archived
            if status.get(valid, HourStatus.ABSENT) in (HourStatus.ABSENT, HourStatus.GAP)
            or (status[valid] == HourStatus.REJECTED and again(valid))
        ],
        "datetime64[h]",
    )


def _note_gaps(store: Store, archived: Hours, wanted: Hours, status: dict[Hour, HourStatus]) -> Iterator[HourVerdict]:
    """Record as gaps the hours, between the first and the last known, that neither dataset nor archive has."""
    ends = np.array([*wanted[[0, -1]], *([min(status), max(status)] if status else [])])
    every = np.arange(ends.min(), ends.max() + HOUR)
    unknown = np.array(
        [hour for hour in every if status.get(hour, HourStatus.ABSENT) == HourStatus.ABSENT], "datetime64[h]"
    )
    yield from _gaps(store, np.setdiff1d(unknown, archived), "not in the archive", status)


def _gaps(store: Store, gaps: Hours, reason: str, status: dict[Hour, HourStatus]) -> Iterator[HourVerdict]:
    """Commit gaps, with one verdict for each range of hours."""
    if gaps.size == 0:
        return
    ranges = consecutive(gaps)
    verdicts = [
        {"valid": str(part[0]), "last": str(part[-1]), "status": "gap", "reason": reason, "hours": part.size}
        for part in ranges
    ]
    store.write_status(gaps, HourStatus.GAP, verdicts)
    status |= dict.fromkeys(gaps, HourStatus.GAP)
    for part in ranges:
        yield HourVerdict(part[0], "gap", reason, 0.0, last=part[-1] if part.size > 1 else None)


def _source(archive: Archive, store: Store, valid: Hour) -> ArchivedHour:
    paths = {lead: archive.path(valid, lead) for lead in store.description.leads}
    return ArchivedHour(
        valid,
        tuple(
            ArchivedFile(path.absolute(), archive.sidecar(path).sha256, signature(path), lead)
            for lead, path in paths.items()
        ),
    )


def _judge(
    store: Store, pool: Pool, ingester: HourIngester, sources: Sequence[ArchivedHour], status: dict[Hour, HourStatus]
) -> Iterator[HourVerdict]:
    """Ingest the hours in the pool and commit them in order; `status` is updated."""
    means: dict[Hour, Mapping[str, float]] = {}
    judged: deque[tuple[ArchivedHour, IngestedHour, list[Future[float]]]] = deque()
    for source, ingested in zip(sources, pool.in_order(HourIngester.ingest, ingester, sources), strict=True):
        valid = source.valid
        if ingested.means is not None:
            means[valid] = ingested.means
            if status.get(valid - HOUR) == HourStatus.OK:
                before = means.pop(valid - HOUR, None) or _means(store, valid - HOUR)
                jumps = compare_means(ingested.means, before, store.description.variables)
                ingested = replace(ingested, findings=(*ingested.findings, *jumps))
        status[valid] = HourStatus.REJECTED if ingested.rejected else HourStatus.OK
        known = [hour for hour in (valid, valid + HOUR) if status.get(hour - HOUR) == status.get(hour) == HourStatus.OK]
        judged.append((source, ingested, [pool.submit(HourIngester.count_changes, ingester, hour) for hour in known]))
        while len(judged) > pool.ahead:
            yield _commit(store, *judged.popleft())
    while judged:
        yield _commit(store, *judged.popleft())


def _commit(
    store: Store, source: ArchivedHour, ingested: IngestedHour, changes: Sequence[Future[float]]
) -> HourVerdict:
    seconds = ingested.seconds + sum(change.result() for change in changes)
    status = HourStatus.REJECTED if ingested.rejected else HourStatus.OK
    verdict = {
        "valid": str(source.valid),
        "status": status.name.lower(),
        "reason": ingested.reason,
        "findings": [asdict(finding) for finding in ingested.findings],
        "file": [number for file in source.files for number in file.signature],
        "chunks": None if ingested.rejected else store.chunk_signatures(source.valid),
    }
    store.write_status([source.valid], status, [verdict])
    return HourVerdict(source.valid, "rejected" if ingested.rejected else "ok", ingested.reason, seconds)


def _means(store: Store, valid: Hour) -> dict[str, float]:
    """Compute the mean of each field of an hour from its histogram."""
    variables = store.description.variables
    means = histogram_means(store.read_histogram(valid), variables)
    return {variable.name: float(mean) for variable, mean in zip(variables, means, strict=True)}
