"""Preprocess the archived HRRR forecasts that force a model: decode, check, store and commit those that are new.

They are checked like analyses. A damaged forecast is rejected, and the others are preprocessed. A forecast that is
needed and not in the archive is recorded as a gap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convcast.archive.forcing import Forcing, HrrrForecast
from convcast.dataset.forcing.store import ForcingStore, verdict
from convcast.dataset.layout import HourStatus
from convcast.dataset.preprocessing.ingest import ArchivedFile, load_fields
from convcast.dataset.preprocessing.quality import QualityFinding, examine, mask_collapsed
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError
from convcast.files import lock, signature
from convcast.notation import HOUR, Hour, consecutive
from convcast.workers import Workers, pool

if TYPE_CHECKING:
    from convcast.archive import Archive

SETTLED = (HourStatus.OK, HourStatus.PRUNED)
"""Statuses of forecasts that are not preprocessed again."""


@dataclass(frozen=True)
class ForecastVerdict:
    """Outcome of preprocessing for a forecast, or for the forecasts of one lead from consecutive cycles."""

    forecast: HrrrForecast
    """The forecast, or that of the first cycle."""
    status: Literal["ok", "gap", "rejected"]
    reason: str
    seconds: float = 0.0
    share: float = 0.0
    """Fraction of the run that is complete after this forecast, 0 to 1."""
    count: int = 1
    """Number of forecasts."""


@dataclass(frozen=True)
class ForecastIngester:
    """Writes single forecasts of one dataset; workers receive a copy and open the dataset themselves."""

    dataset: Path
    rows: slice
    columns: slice
    max_missing_points: float

    @cached_property
    def _store(self) -> ForcingStore:
        store = ForcingStore.open(self.dataset, writing=True)
        assert store is not None
        return store

    def ingest(self, source: tuple[HrrrForecast, ArchivedFile]) -> tuple[str, bool, float]:
        """Decode, check and write a forecast; return the reason, whether it is rejected, and the seconds taken."""
        started = time.perf_counter()
        forecast, file = source
        description = self._store.description
        valid, variables = forecast.cycle + forecast.lead * HOUR, description.variables
        try:
            fields = load_fields(file, valid, variables, description, (self.rows, self.columns))
        except DamagedFileError as error:
            return str(error), True, time.perf_counter() - started
        masked = mask_collapsed(fields, variables)
        findings: list[QualityFinding] = [
            *masked,
            *examine(fields, variables, masked=masked, max_missing_points=self.max_missing_points),
        ]
        rejected = any(finding.rejects for finding in findings)
        if not rejected:
            self._store.write(forecast, fields)
        return "; ".join(map(str, findings)), rejected, time.perf_counter() - started


def preprocess_forcing(
    archive: Archive,
    path: Path,
    *,
    forcing: Forcing,
    max_missing_points: float,
    workers: Workers | None = None,
    verify: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[ForecastVerdict]:
    """Add the archived forecasts that the dataset lacks to it, and yield the outcome of each.

    Args:
        archive: The archive to read.
        path: The dataset's Zarr store, which must exist.
        forcing: The forecasts that the model needs.
        max_missing_points: Maximum fraction of missing points in an accepted field.
        workers: Processes that decode and write.
        verify: Read all stored forecasts, and restore damaged ones from the archive.
        tell: Called with a sentence for each repair.

    Raises:
        DamagedFileError: The dataset is damaged.
        LockedError: Another run is writing the dataset.
    """
    with lock(path.parent / "locks" / f"{path.name}.lock", f"preprocessing {path}"):
        hours = Store.open(path)
        store = ForcingStore.prepare(path)
        crop = hours.archived_grid.window(hours.description.grid)
        status, verdicts = store.statuses(), store.verdicts()
        archived = forcing.archived(archive)
        ok = [forecast for forecast, code in status.items() if code == HourStatus.OK]
        lost = {each for each in ok if not (store.is_whole(each) if verify else store.has_file(each))}
        if lost:
            tell(f"{len(lost)} HRRR forecasts lost their fields, the first is that of {min(lost)}")

        def is_due(forecast: HrrrForecast) -> bool:
            code = status.get(forecast, HourStatus.ABSENT)
            if code == HourStatus.REJECTED:
                return bool(verdicts.get(forecast, {}).get("file") != signature(archived[forecast]))
            return forecast in lost or code not in SETTLED

        todo = sorted(filter(is_due, archived))
        gone = "its fields are lost, and the archive does not have it any more"
        yield from _gaps(store, lost - archived.keys(), gone)
        times, codes = hours.read_status()
        needed = forcing.needed(times[codes == HourStatus.OK])
        absent = {each for each in needed if status.get(each, HourStatus.ABSENT) == HourStatus.ABSENT}
        yield from _gaps(store, absent - archived.keys(), "not in the archive")
        if todo:
            hours.sweep()
            store.reserve(todo[-1].cycle)
        yield from _ingest(archive, store, archived, todo, ForecastIngester(path, *crop, max_missing_points), workers)


def _ingest(
    archive: Archive,
    store: ForcingStore,
    archived: Mapping[HrrrForecast, Path],
    todo: Sequence[HrrrForecast],
    ingester: ForecastIngester,
    workers: Workers | None,
) -> Iterator[ForecastVerdict]:
    """Ingest these forecasts in the pool and commit them in order."""
    if not todo:
        return
    sources = [
        (each, ArchivedFile(path.absolute(), archive.sidecar(path).sha256, signature(path), each.lead))
        for each, path in ((each, archived[each]) for each in todo)
    ]
    with pool(workers) as worker_pool:
        ingested = worker_pool.in_order(ForecastIngester.ingest, ingester, sources)
        for number, ((forecast, file), (reason, rejected, seconds)) in enumerate(
            zip(sources, ingested, strict=True), 1
        ):
            status = HourStatus.REJECTED if rejected else HourStatus.OK
            store.commit(status, [forecast], [verdict(forecast, status, reason, file=file.signature)])
            share = number / len(todo)
            yield ForecastVerdict(forecast, "rejected" if rejected else "ok", reason, seconds, share)


def _gaps(store: ForcingStore, gaps: set[HrrrForecast], reason: str) -> Iterator[ForecastVerdict]:
    """Commit gaps, with one verdict for each lead and range of consecutive cycles."""
    if not gaps:
        return
    lines: list[dict[str, Any]] = []
    outcomes: list[ForecastVerdict] = []
    for lead, of_lead in groupby(sorted(gaps, key=lambda each: (each.lead, each.cycle)), lambda each: each.lead):
        cycles = np.array([each.cycle for each in of_lead], "datetime64[h]")
        for part in consecutive(cycles):
            first: Hour = part[0]
            forecast = HrrrForecast(first, lead)
            lines.append(verdict(forecast, HourStatus.GAP, reason, last=str(part[-1])))
            outcomes.append(ForecastVerdict(forecast, "gap", reason, count=part.size))
    store.commit(HourStatus.GAP, sorted(gaps), lines)
    yield from outcomes
