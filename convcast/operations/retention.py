"""What a workspace lets go of, so that its disk stays bounded: chosen by a pure function, deleted so that a kill at any
instant leaves nothing half there.

What an unfinished run needs stays, whatever its age: see `plan_prune`. A room whose lock another run holds is left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from convcast import files
from convcast.archive import open_archives
from convcast.archive.archive import sidecar_path
from convcast.archive.locations import parse_path
from convcast.dataset.store import Store
from convcast.errors import LockedError, SettingsError
from convcast.files import discard, folder_bytes, lock
from convcast.forecasts.integrity import fault_of
from convcast.notation import HOUR, Hour, from_compact
from convcast.operations.inventory import VERIFICATION, Inventory
from convcast.operations.plan import CycleLimits, unfinished
from convcast.operations.status import lookback
from convcast.settings import RetentionSettings
from convcast.workspace import Workspace

LAGGED = 24
"""Hours before a forecast that kept forecasts of other systems may have been started."""


@dataclass(frozen=True)
class StoredFiles:
    """What there is to prune."""

    archive: Mapping[Path, tuple[Hour, bool]] = field(default_factory=dict)
    """Valid hour of each GRIB file, and whether it is an analysis."""
    dataset: Sequence[Hour] = ()
    forecasts: Mapping[Path, Hour] = field(default_factory=dict)
    """Initial times."""
    products: Mapping[Path, Hour] = field(default_factory=dict)
    temporary: Mapping[Path, Hour] = field(default_factory=dict)
    """Members that were to stay only until their products were made."""
    statistics: Mapping[Path, Hour] = field(default_factory=dict)


@dataclass(frozen=True)
class PrunePlan:
    """What may go, room by room."""

    archive: tuple[Path, ...] = ()
    dataset: tuple[Hour, ...] = ()
    forecasts: tuple[Path, ...] = ()
    products: tuple[Path, ...] = ()
    statistics: tuple[Path, ...] = ()


@dataclass
class PruneResult:
    """What went: how many things a room, and their bytes."""

    counts: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    left: list[str] = field(default_factory=list)
    """Rooms that another run was at."""


def plan_prune(stock: StoredFiles, inventory: Inventory, limits: CycleLimits, keep: RetentionSettings) -> PrunePlan:
    """What is older than the settings say, but for what is still needed:

    the hours that a cycle may yet fetch, decode or start from; archived hours that the dataset has not seen; members
    that are incomplete or still to be scored, as far back as a cycle catches up; the analyses they are to be scored by;
    and in the dataset the hours that the model learned from. Ages are counted from the newest hour that is here.
    """
    # A clock that is wrong, or an outage, makes nothing old before newer hours are here.
    newest = min(
        inventory.expected,
        max([*inventory.archived, *filter(inventory.ok, inventory.hour_status)], default=inventory.expected),
    )
    history = inventory.model.history if inventory.model else limits.history
    needed = newest - (limits.catch_up + history) * HOUR
    first = newest - limits.catch_up * HOUR
    busy = unfinished(replace(inventory, expected=newest), limits)
    # Where the clock is far ahead, those that are not old have not been looked at.
    looked_at, near = inventory.expected - lookback(limits), newest - lookback(limits)
    busy |= {init for init in stock.forecasts.values() if near <= init < looked_at}
    needed = min([needed, *(init - (history - 1) * HOUR for init in busy)])

    dataset_before = min(_before(newest, keep.dataset_hours), needed)
    archive_before = min(_before(newest, keep.archive_hours), needed)
    forecasts_before = _before(newest, 24 * keep.forecasts_days)
    forecasts = {p: init for p, init in stock.forecasts.items() if init < forecasts_before and init not in busy}
    kept = [init for path, init in stock.forecasts.items() if path not in forecasts]
    # Forecasts that are on the disk are scored beside others of the same hours.
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
        # Those that a killed run left are made use of as far back as a cycle catches up.
        forecasts=(*forecasts, *(path for path, init in stock.temporary.items() if init < first)),
        products=_older(stock.products, _before(newest, 24 * keep.products_days), busy),
        statistics=_older(stock.statistics, _before(newest, 24 * keep.statistics_days), {*busy, *kept}),
    )


def _before(newest: Hour, hours: float) -> Hour:
    """Where keeping begins; the beginning of time where all is kept."""
    return newest - round(hours) * HOUR if math.isfinite(hours) else np.datetime64("0001-01-01", "h")


def _older(found: Mapping[Path, Hour], before: Hour, busy: Iterable[Hour]) -> tuple[Path, ...]:
    spared = set(busy)
    return tuple(path for path, init in found.items() if init < before and init not in spared)


def list_stored_files(workspace: Workspace, *, analysis_lead: int, dataset: bool) -> StoredFiles:
    """What lies in the rooms; of the dataset only where it is to be pruned."""
    archive = {}
    for room in open_archives(workspace.archive).values():
        for path in room.files():
            file = parse_path(path.relative_to(room.root).as_posix())
            if file is not None:
                archive[path] = file.valid, file.model == "hrrr" and file.lead == analysis_lead
    for path in workspace.simulated.glob("hrrr.*/conus/*.grib2"):  # made anew when it is asked for
        file = parse_path(path.relative_to(workspace.simulated).as_posix())
        if file is not None:
            archive[path] = file.valid, True
    return StoredFiles(
        archive=archive,
        dataset=_dataset_hours(workspace) if dataset else (),
        forecasts=_ours(_by_init(workspace.forecasts, "*.zarr"))
        | _by_init(workspace.root / "baselines", "*/*.zarr"),  # the exact ensembles of simulated forecasts
        products=_ours(_by_init(workspace.products, "[!.]*.zarr")),
        temporary=_ours(_by_init(workspace.products, ".*.members.zarr")),
        statistics=_by_init(workspace.verification(VERIFICATION) / "cases", "*/*.npz"),
    )


def _dataset_hours(workspace: Workspace) -> tuple[Hour, ...]:
    try:
        return tuple(Store.open(workspace.dataset).kept())
    except SettingsError:
        return ()


def _ours(found: Mapping[Path, Hour]) -> dict[Path, Hour]:
    """Without what others put there, which is not ours to delete."""
    return {path: init for path, init in found.items() if fault_of(path) is None}


def _by_init(folder: Path, pattern: str) -> dict[Path, Hour]:
    """Files and folders, but no links, named for an initial time, or for that and a lead."""
    named = (
        (path, from_compact(re.split(r"[+.]", path.name.lstrip("."))[0]))
        for path in sorted(folder.glob(pattern))
        if not path.is_symlink()
    )
    return {path: init for path, init in named if init is not None}


def prune(workspace: Workspace, plan: PrunePlan) -> PruneResult:
    """Delete what the plan says, oldest first, each room under its lock."""
    done = PruneResult()

    def forget(hour: Hour) -> None:
        Store.open(workspace.dataset, writing=True).forget([hour])

    _room(done, "archive", workspace.lock("fetch"), plan.archive, _delete_archived)
    if plan.dataset:
        before = folder_bytes(workspace.dataset)
        # A training reads any hour; preprocessing writes them.
        trainings = sorted((workspace.root / "locks").glob("train-*.lock"))
        if all(_free(path) for path in trainings):
            _room(done, "dataset", workspace.lock(workspace.dataset.name), plan.dataset, forget)
            done.bytes += before - folder_bytes(workspace.dataset)
        else:
            done.left.append("dataset")
    _room(done, "forecasts", workspace.lock("sample"), plan.forecasts, _delete)
    _room(done, "products", workspace.lock("sample"), plan.products, _delete)
    _room(done, "statistics", None, plan.statistics, _delete)
    return done


def _room(
    done: PruneResult,
    name: str,
    guard: Path | None,
    things: Sequence[Path] | Sequence[Hour],
    delete: Callable[..., int | None],
) -> None:
    if not things:
        return
    try:
        if guard is None:
            freed = [delete(thing) or 0 for thing in things]
        else:
            with lock(guard, f"at the {name}"):
                freed = [delete(thing) or 0 for thing in things]
    except LockedError:
        done.left.append(name)
        return
    done.counts[name] = len(freed)
    done.bytes += sum(freed)


def _delete_archived(path: Path) -> int:
    """The sidecar first: a file without one does not count."""
    sidecar_path(path).unlink(missing_ok=True)
    path.with_name(f"{path.name}.idx").unlink(missing_ok=True)  # of the simulated publisher, likewise
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    _remove_empty(path.parent)
    return size


def _remove_empty(folder: Path) -> None:
    """The folder of a cycle, then of a day, where nothing is left in them."""
    for each in (folder, folder.parent):
        try:
            each.rmdir()
        except OSError:
            return


def _delete(path: Path) -> int:
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    return discard(path)


def _free(path: Path) -> bool:
    try:
        with lock(path, "training"):
            return True
    except LockedError:
        return False


def sweep(workspace: Workspace, inits: Iterable[Hour]) -> int:
    """Delete what killed runs left half-written, in any room; gives how much there was.

    Of the forecasts only those of these initial times are looked through; the dataset is by the next preprocessing.
    """
    tops = (workspace.root, workspace.forecasts, workspace.products, workspace.page)
    rooms = [
        workspace.archive,
        workspace.simulated,
        *(workspace.root / name for name in ("baselines", "models", "verification")),
    ]
    whole = [*rooms, *(path for path in map(workspace.forecast, inits) if not path.is_symlink())]
    return sum(files.sweep(folder, recursive=False) for folder in tops) + sum(map(files.sweep, whole))
