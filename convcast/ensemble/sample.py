"""Drawing members: each from its own noise, with the same solver, into the same ensemble."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convcast import __version__
from convcast.dataset import Dataset, usable_inits
from convcast.ensemble.case import Case
from convcast.ensemble.noise import member_noise
from convcast.ensemble.store import Description, EnsembleStore
from convcast.ensemble.tiles import Tiling, cover
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.grid import SPACING
from convcast.model import SOLVERS, Forecaster
from convcast.notation import HOUR, Hour
from convcast.settings import SamplingSettings

CPU_CELLS = 40960
"""Cells of one network call on the CPU: larger calls leave the caches, smaller ones waste time between layers."""
CPU_GROUP = 10
LARGEST_MEMBER = np.iinfo(np.int16).max


@dataclass(frozen=True)
class MemberDone:
    """A member and lead that is in the ensemble now."""

    init: Hour
    member: int
    lead: int
    """Hours."""
    seconds: float
    """Its share of the time of those drawn with it, and its own time on the disk."""


def sample(
    forecaster: Forecaster,
    dataset: Dataset,
    path: Path,
    *,
    init: Hour,
    members: Sequence[int],
    leads: Sequence[int],
    settings: SamplingSettings,
    name: str | None = None,
) -> Iterator[MemberDone]:
    """Draw these members at these leads into the ensemble at `path`, but for those that it has.

    `name` is what the files call the model; without one, the start of its digest.

    A member depends on the model, the dataset, its number, and those settings that the ensemble's attributes name; not
    on the others drawn with it, on settings.batch, or on the process. On a CPU that holds bit for bit.

    Raises, before anything is written: SettingsError for leads or steps that the model was not trained for;
    DamagedFileError where model and dataset differ in fields, spacing or world, or the ensemble has another identity;
    MissingInputError where the history before `init` is not whole.
    """
    _check(forecaster, dataset, members=members, leads=leads, settings=settings)
    tiling = cover(dataset.grid, tile=settings.tile, overlap=settings.overlap)
    description = describe(forecaster, dataset, tiling, init=init, settings=settings, name=name)
    if not path.exists():
        dataset.require(init - np.arange(forecaster.settings.history) * HOUR)
    store = EnsembleStore.prepare(path, description, members=max(members) + 1)
    size = _group_size(tiling, forecaster.device, settings.batch)
    for lead in sorted(set(leads)):
        missing = store.missing(sorted(set(members)), lead)
        if not missing:
            continue
        started = time.perf_counter()
        with torch.inference_mode(), _threads(settings.threads):
            case = Case(forecaster, dataset, tiling, init=init, lead=lead, guidance=settings.guidance)
        for first in sorted({member // size * size for member in missing}):
            drawn = _draw(case, range(first, first + size), init=init, lead=lead, settings=settings)
            wanted = [member for member in missing if first <= member < first + size]
            share = (time.perf_counter() - started) / len(wanted)
            for member in wanted:
                started = time.perf_counter()
                store.write(member, lead, drawn[member - first])
                yield MemberDone(init, member, lead, share + time.perf_counter() - started)
            started = time.perf_counter()


def latest_init(dataset: Dataset, forecaster: Forecaster) -> Hour:
    """The last hour before which the dataset has all the history that the model sees.

    Raises MissingInputError where there is none.
    """
    history = forecaster.settings.history
    inits = usable_inits(dataset.hours, history=history, leads=())
    if len(inits) == 0:
        raise MissingInputError(
            f"the dataset has no {history} consecutive hours to forecast from",
            advice="run `convcast fetch --days 1`, then `convcast preprocess`",
        )
    latest: Hour = inits[-1]
    return latest


def describe(
    forecaster: Forecaster,
    dataset: Dataset,
    tiling: Tiling,
    *,
    init: Hour,
    settings: SamplingSettings,
    name: str | None = None,
) -> Description:
    """What the ensemble's file says of it. Its identity is what a member depends on, so neither batch nor members."""
    identity: dict[str, Any] = {
        "simulated": int(dataset.simulated),
        "analysis_lead": dataset.analysis_lead,
        "model_sha256": forecaster.sha256,
        "seed": settings.seed,
        "solver": settings.solver,
        "steps": settings.evaluations(forecaster.schedule.steps),
        **({"eta": settings.eta} if settings.solver == "ddim" and settings.eta else {}),
        "guidance": settings.guidance,
        "precision": settings.precision,
        "tiles": str(tiling),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    world = "convcast's simulated archive" if dataset.simulated else "NOAA HRRR"
    first, last = forecaster.training_hours
    model = name or forecaster.sha256[:12]
    information = {
        "title": f"{'SIMULATED ' if dataset.simulated else ''}convcast ensemble forecast from {init}Z",
        "source": f"convcast {__version__}: diffusion model {model}, started from analyses of {world}",
        "convcast_version": __version__,
        "model": model,
        "training_hours": f"{first}/{last}",
        "settings_hash": digest,
    }
    return Description(init, tuple(forecaster.leads), dataset.variables, dataset.grid, identity, information)


def _check(
    forecaster: Forecaster,
    dataset: Dataset,
    *,
    members: Sequence[int],
    leads: Sequence[int],
    settings: SamplingSettings,
) -> None:
    if not members or not leads:
        raise SettingsError("an ensemble of no members or no leads was asked for", advice="use --members 50 --leads 1")
    if min(members) < 0 or max(members) > LARGEST_MEMBER:
        raise SettingsError(f"members are numbered from 0 to {LARGEST_MEMBER}", advice="use --members 0-49")
    for lead in leads:
        if lead not in forecaster.leads:
            trained = ",".join(map(str, forecaster.leads))
            raise SettingsError(
                f"the model was not trained for a lead of {lead} h", advice=f"use --leads {trained}, or train with it"
            )
    if settings.evaluations(forecaster.schedule.steps) > forecaster.schedule.steps:
        raise SettingsError(
            f"the model's diffusion process has {forecaster.schedule.steps} steps, {settings.steps} were asked for",
            advice=f"use --steps {forecaster.schedule.steps} or fewer",
        )
    if forecaster.simulated != dataset.simulated:
        kind, other = ("simulated", "real") if forecaster.simulated else ("real", "simulated")
        raise DamagedFileError(
            f"the model was trained on {kind} weather, the dataset is of {other} weather",
            advice="train a model on this dataset with `convcast train`",
        )
    names = [" ".join(variable.name for variable in each.variables) for each in (forecaster, dataset)]
    if names[0] != names[1]:
        raise DamagedFileError(
            f"the model has the fields {names[0]}, the dataset {names[1]}",
            advice="train a model on this dataset with `convcast train`",
        )
    if forecaster.analysis_lead != dataset.analysis_lead:
        raise DamagedFileError(
            f"the model was trained on analyses of lead {forecaster.analysis_lead}, "
            f"the dataset has those of lead {dataset.analysis_lead}",
            advice="train a model on this dataset with `convcast train`",
        )
    if forecaster.spacing != SPACING:
        raise DamagedFileError(
            f"the model was trained on cells of {forecaster.spacing:g} m, the dataset's are {SPACING:g} m",
            advice="train a model on this dataset with `convcast train`",
        )


def _group_size(tiling: Tiling, device: torch.device, batch: int) -> int:
    """How many members are drawn together, always the same ones: 0 to n-1, n to 2n-1, …

    Convolutions and products of matrices differ in the last bits with the number of rows, in float32 even with a row's
    place among them (measured: oneDNN on two threads). Drawing a member in one fixed group, whichever of the group are
    wanted, leaves nothing to differ. So on the CPU the size follows from the tile alone. Measured there, with 0.8 and
    32 million parameters: 10 x 64² and 1 or 2 x 128² cells a call are best, 1.8 and 1.5 times as fast as 1 and 10.
    """
    if device.type != "cpu":
        return batch
    ny, nx = tiling.tile_shape
    return min(CPU_GROUP, max(1, CPU_CELLS // (ny * nx)))


def _draw(
    case: Case, members: Sequence[int], *, init: Hour, lead: int, settings: SamplingSettings
) -> NDArray[np.float32]:
    """Physical fields of these members, (member, variable, y, x)."""
    forecaster, shape = case.forecaster, (len(case.forecaster.variables), *case.tiling.shape)

    def noise(step: int) -> Tensor:
        drawn = [member_noise(settings.seed, init, member, lead, shape, step=step) for member in members]
        return torch.from_numpy(np.stack(drawn)).to(forecaster.device)

    with torch.inference_mode(), _threads(settings.threads):
        x0 = SOLVERS[settings.solver](
            case.predict_noise,
            noise(0),
            schedule=forecaster.schedule,
            steps=settings.evaluations(forecaster.schedule.steps),
            clamp=case.clamp,
            noise=lambda k: noise(1 + k),
            **({"eta": settings.eta} if settings.solver == "ddim" else {}),
        )
        return case.fields(x0)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute on so many CPU threads; sums in float32 differ in the last bits with their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
