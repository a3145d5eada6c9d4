"""Prune a workspace so that its disk use stays bounded.

A pure function, `plan_prune`, chooses what is deleted; a kill at any instant leaves nothing half deleted. Files that an
unfinished run needs are kept, however old, and folders that another run has locked are left for the next cycle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from convcast import files
from convcast.archive import open_archives
from convcast.archive.archive import sidecar_path
from convcast.archive.locations import parse_path
from convcast.dataset.forcing.store import ForcingStore
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError, LockedError, SettingsError
from convcast.files import discard, folder_bytes, lock
from convcast.forecasts.integrity import find_fault
from convcast.notation import HOUR, Hour, from_compact
from convcast.operations.inventory import VERIFICATION, Inventory
from convcast.operations.plan import CycleLimits, unfinished
from convcast.operations.status import lookback
from convcast.settings import RetentionSettings
from convcast.workspace import Workspace

LAGGED = 24
"""Maximum age, in hours before a forecast's init time, of the reference forecasts that are kept with it."""


FORCING_REACH = (LAGGED + 1) * HOUR
"""Maximum time from a cycle whose forecast forces a model to the initial time."""


@dataclass(frozen=True)
class StoredFiles:
    """The stored files and hours that may be pruned."""

    archive: Mapping[Path, tuple[Hour, bool]] = field(default_factory=dict)
    """Valid hour of each GRIB file, and whether it is an analysis."""
    dataset: Sequence[Hour] = ()
    cycles: Sequence[Hour] = ()
    """Cycles of the dataset's HRRR forecasts."""
    forecasts: Mapping[Path, Hour] = field(default_factory=dict)
    """Initial time of each ensemble."""
    products: Mapping[Path, Hour] = field(default_factory=dict)
    temporary: Mapping[Path, Hour] = field(default_factory=dict)
    """Members that are stored only until their products are made."""
    statistics: Mapping[Path, Hour] = field(default_factory=dict)


@dataclass(frozen=True)
class PrunePlan:
    """The files and hours to delete, by folder."""

    archive: tuple[Path, ...] = ()
    dataset: tuple[Hour, ...] = ()
    cycles: tuple[Hour, ...] = ()
    forecasts: tuple[Path, ...] = ()
    products: tuple[Path, ...] = ()
    statistics: tuple[Path, ...] = ()


@dataclass
class PruneResult:
    """The result of pruning: numbers of deleted items by folder, and their bytes."""

    counts: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    left: list[str] = field(default_factory=list)
    """Folders left because another run holds their lock."""


def plan_prune(stock: StoredFiles, inventory: Inventory, limits: CycleLimits, keep: RetentionSettings) -> PrunePlan:
    """Choose what is older than the settings keep and no longer needed.

    Needed are: hours that a cycle may fetch, decode or start from; archived hours that were not preprocessed;
    members that are incomplete or to be scored, as far back as a cycle catches up; the analyses to score them by; and
    the dataset's hours of the model's training period. Ages count from the newest stored hour.

    Args:
        stock: The stored files.
        inventory: The inventory.
        limits: Limits of the cycle.
        keep: How long files of each kind are kept.
    """
    # After an outage, or with a wrong clock, nothing counts as old before newer hours are stored.
    newest = min(
        inventory.expected,
        max([*inventory.archived, *filter(inventory.ok, inventory.hour_status)], default=inventory.expected),
    )
    history = inventory.model.history if inventory.model else limits.history
    needed = newest - (limits.catch_up + history) * HOUR
    first = newest - limits.catch_up * HOUR
    busy = unfinished(replace(inventory, expected=newest), limits)
    # With a clock far ahead, the inventory does not cover recent forecasts: they are kept.
    looked_at, near = inventory.expected - lookback(limits), newest - lookback(limits)
    busy |= {init for init in stock.forecasts.values() if near <= init < looked_at}
    needed = min([needed, *(init - (history - 1) * HOUR for init in busy)])

    dataset_before = min(_before(newest, keep.dataset_hours), needed)
    archive_before = min(_before(newest, keep.archive_hours), needed)

    def older(paths: Mapping[Path, Hour], days: float, spared: Set[Hour]) -> tuple[Path, ...]:
        before = _before(newest, 24 * days)
        return tuple(path for path, init in paths.items() if init < before and init not in spared)

    forecasts = older(stock.forecasts, keep.forecasts_days, busy)
    kept = [init for path, init in stock.forecasts.items() if path not in forecasts]
    # Stored forecasts are scored beside reference forecasts of the same hours.
    others_before = min([archive_before, *(init - LAGGED * HOUR for init in kept)])
    trained = inventory.model.trained if inventory.model else None
    return PrunePlan(
        archive=tuple(
            path
            for path, (valid, analysis) in stock.archive.items()
            if valid < (archive_before if analysis else others_before)
            and not (analysis and valid in inventory.unprocessed)
        ),
        dataset=tuple(
            hour
            for hour in stock.dataset
            if hour < dataset_before and not (trained and trained[0] <= hour <= trained[1])
        ),
        # Hours are forced by cycles of up to a day before them.
        cycles=tuple(
            cycle
            for cycle in stock.cycles
            if cycle + FORCING_REACH < dataset_before
            and not (trained and trained[0] <= cycle + FORCING_REACH and cycle <= trained[1])
        ),
        # A later run uses the members that a killed run left, as far back as a cycle catches up.
        forecasts=(*forecasts, *(path for path, init in stock.temporary.items() if init < first)),
        products=older(stock.products, keep.products_days, busy),
        statistics=older(stock.statistics, keep.statistics_days, {*busy, *kept}),
    )


def _before(newest: Hour, hours: float) -> Hour:
    """Return the hour before which files are pruned; the year 1 if all are kept."""
    return newest - round(hours) * HOUR if math.isfinite(hours) else np.datetime64("0001-01-01", "h")


def list_stored_files(workspace: Workspace, *, analysis_lead: int, dataset: bool) -> StoredFiles:
    """List the stored files.

    Args:
        workspace: The workspace.
        analysis_lead: Lead time, hours, of the HRRR forecasts that are taken for analyses; 0 for analyses.
        dataset: Whether to list the hours and the cycles of the dataset, too.
    """
    archive = {}
    for publisher in open_archives(workspace.archive).values():
        for path in publisher.files():
            file = parse_path(path.relative_to(publisher.root).as_posix())
            if file is not None:
                archive[path] = file.valid, file.model == "hrrr" and file.lead == analysis_lead
    for path in workspace.simulated.glob("hrrr.*/conus/*.grib2"):  # files that are made again when requested
        file = parse_path(path.relative_to(workspace.simulated).as_posix())
        if file is not None:
            archive[path] = file.valid, True
    return StoredFiles(
        archive=archive,
        dataset=_dataset_hours(workspace) if dataset else (),
        cycles=_forcing_cycles(workspace) if dataset else (),
        forecasts=_ours(_by_init(workspace.forecasts, "*.zarr"))
        | _ours(_by_init(workspace.raw, "*.zarr"))
        | _by_init(workspace.root / "baselines", "*/*.zarr"),  # the exact ensembles of simulated forecasts
        products=_ours(_by_init(workspace.products, "[!.]*.zarr")),
        temporary=_ours(_by_init(workspace.products, ".*.members.zarr")),
        statistics=_by_init(workspace.verification(VERIFICATION) / "cases", "*/*.npz")
        | _by_init(workspace.calibrations, "*.json"),
    )


def _dataset_hours(workspace: Workspace) -> tuple[Hour, ...]:
    try:
        return tuple(Store.open(workspace.dataset).stored_hours())
    except SettingsError:
        return ()


def _forcing_cycles(workspace: Workspace) -> tuple[Hour, ...]:
    try:
        store = ForcingStore.open(workspace.dataset)
    except (DamagedFileError, SettingsError):  # a damaged dataset, which preprocessing repairs
        return ()
    return () if store is None else tuple(store.stored_cycles())


def _ours(paths: Mapping[Path, Hour]) -> dict[Path, Hour]:
    """Leave out files that convcast did not write, which must not be deleted."""
    return {path: init for path, init in paths.items() if find_fault(path) is None}


def _by_init(folder: Path, pattern: str) -> dict[Path, Hour]:
    """Return files and folders, but no links, that are named for an initial time, by path."""
    named = (
        (path, from_compact(re.split(r"[+.]", path.name.lstrip("."))[0]))
        for path in sorted(folder.glob(pattern))
        if not path.is_symlink()
    )
    return {path: init for path, init in named if init is not None}


def prune(workspace: Workspace, plan: PrunePlan) -> PruneResult:
    """Delete the files and hours of a plan, oldest first, while holding the lock of each folder."""
    done = PruneResult()

    def prune_hour(hour: Hour) -> None:
        Store.open(workspace.dataset, writing=True).prune([hour])

    def prune_cycle(cycle: Hour) -> None:
        ForcingStore.prepare(workspace.dataset).prune([cycle])

    _prune_folder(done, "archive", workspace.lock("fetch"), plan.archive, _delete_archived)
    if plan.dataset or plan.cycles:
        before = folder_bytes(workspace.dataset)
        # Training may read any hour of the dataset.
        trainings = sorted((workspace.root / "locks").glob("train-*.lock"))
        if not any(map(_is_locked, trainings)):
            guard = workspace.lock(workspace.dataset.name)
            _prune_folder(done, "dataset", guard, plan.dataset, prune_hour)
            _prune_folder(done, "forcing", guard, plan.cycles, prune_cycle)
            done.bytes += before - folder_bytes(workspace.dataset)
        else:
            done.left.append("dataset")
    _prune_folder(done, "forecasts", workspace.lock("sample"), plan.forecasts, _delete)
    _prune_folder(done, "products", workspace.lock("sample"), plan.products, _delete)
    _prune_folder(done, "statistics", None, plan.statistics, _delete)
    return done


def _prune_folder(
    done: PruneResult,
    name: str,
    guard: Path | None,
    things: Sequence[Path] | Sequence[Hour],
    delete: Callable[..., int | None],
) -> None:
    if not things:
        return
    try:
        with lock(guard, f"at the {name}") if guard else nullcontext():
            freed = [delete(thing) or 0 for thing in things]
    except LockedError:
        done.left.append(name)
        return
    done.counts[name] = len(freed)
    done.bytes += sum(freed)


def _delete_archived(path: Path) -> int:
    """Delete an archived file after its sidecar, since a file without a sidecar does not count."""
    sidecar_path(path).unlink(missing_ok=True)
    path.with_name(f"{path.name}.idx").unlink(missing_ok=True)  # the simulated publisher's index
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    _remove_empty(path.parent)
    return size


def _remove_empty(folder: Path) -> None:
    """Remove the folder of an init time, then of its day, if they are empty."""
    for each in (folder, folder.parent):
        try:
            each.rmdir()
        except OSError:
            return


def _delete(path: Path) -> int:
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    return discard(path)


def _is_locked(path: Path) -> bool:
    try:
        with lock(path, "training"):
            return False
    except LockedError:
        return True


def sweep(workspace: Workspace, inits: Iterable[Hour]) -> int:
    """Delete the partial files of killed runs, and return their number.

    Only the forecasts of the given initial times are searched. The next preprocessing sweeps the dataset.
    """
    shallow = (workspace.root, workspace.forecasts, workspace.products, workspace.page)
    names = ("archive", "simulated", "baselines", "models", "verification", "calibration")
    deep = [workspace.root / name for name in names]
    written = [path(init) for init in inits for path in (workspace.forecast, workspace.raw_forecast)]
    deep += [path for path in written if not path.is_symlink()]
    return sum(files.sweep(folder, recursive=False) for folder in shallow) + sum(map(files.sweep, deep))
