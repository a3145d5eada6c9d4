"""Sampling of an ensemble: each member is drawn from its own noise and written to the forecast's Zarr store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convcast import __version__
from convcast.dataset import Dataset, usable_inits
from convcast.ensemble.background import NoiseAhead, Writer
from convcast.ensemble.forcing import Choice, choose, described
from convcast.ensemble.memory import block_size, choose_tiling, plan
from convcast.ensemble.noise import member_noise
from convcast.ensemble.rollout import Floats, rollout
from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.ensemble.tiles import Tiling
from convcast.ensemble.walks import Walks, check_walks
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import SPACING
from convcast.model import Forecaster
from convcast.model.devices import cpu_threads, send
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import SamplingSettings

DrawStep = Callable[[Sequence[int], Hour, int, Floats | None], Floats]
"""Draws members at a lead, hours, from a start: (members, start, lead, pasts) -> fields (member, variable, y, x)."""
MAX_MEMBER = np.iinfo(np.int16).max
"""Highest member number, since the store numbers members in int16."""


@dataclass(frozen=True)
class MemberDone:
    """A member and lead that has been written to the ensemble."""

    init: Hour
    member: int
    lead: int
    """Lead time, hours."""
    seconds: float
    """Time to write the member, plus its share of the time to draw its group."""


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
    stored: Sequence[Path] = (),
    perturbation: Forecaster | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[MemberDone]:
    """Draw the members and leads that the ensemble at `path` lacks.

    Leads that the model was trained for are drawn directly, others by repeated one-hour forecasts, which have no
    forcing after the first hour. A member depends on the model, the dataset, its number and the settings named in the
    ensemble's attributes, and not on the members drawn with it, the memory or the process. On a CPU this holds bit for
    bit for one number of threads.

    Args:
        forecaster: The trained model.
        dataset: The hours of the history.
        path: The Zarr store of the ensemble, created where it is missing.
        init: Initial time.
        members: Member numbers.
        leads: Lead times, hours.
        settings: Solver, steps, tiles, seed and the like.
        name: The model's name in the file; by default the start of its digest.
        stored: Other files of this initial time, to whose forcing the members are drawn (convcast.ensemble.forcing).
        perturbation: The model that perturbs states, for the method `walks`.
        rank: The rank of this process among those that share the members of the ensemble.
        world_size: The number of those processes.

    Yields:
        Each member and lead once it has been written.

    Raises:
        SettingsError: A lead cannot be drawn, there are more steps than the diffusion process has, or the memory holds
            less than one tile.
        DamagedFileError: Model and dataset differ in fields, spacing or world, or the ensemble has another identity.
        MissingInputError: An hour of the history before `init` is missing, or an HRRR forecast that the stored
            members had.
        All are raised before anything is written.
    """
    settings = settings.of_method()
    check_walks(forecaster, perturbation, settings)
    _check(forecaster, dataset, members=members, leads=leads, settings=settings)
    if perturbation is not None:
        _check_same_data(perturbation, dataset)
    tiling = choose_tiling(forecaster, dataset.grid, settings, stored=(path, *stored))
    rollout_leads = _rollout_leads(forecaster, leads, settings)
    at_once = plan(forecaster, tiling, gigabytes=settings.memory, batch=settings.batch, rollout=bool(rollout_leads))
    forcing = choose(forecaster, dataset, init, settings, stored=(path, *stored))
    description = describe(
        forecaster,
        dataset,
        init=init,
        leads=leads,
        settings=settings,
        name=name,
        stored=(path, *stored),
        perturbation=perturbation,
        tiling=tiling,
    )
    if not path.exists():
        dataset.require(_history(forecaster, init))
    store = EnsembleStore.prepare(path, description, members=max(members) + 1)
    block = block_size(tiling)
    turn = int(init.astype(np.int64))
    assigned = [member for member in sorted(set(members)) if (turn + member // block) % world_size == rank]
    draw = _Drawing(forecaster, dataset, tiling, init, settings, at_once.cached_tiles, forcing)
    groups = partial(_groups, size=at_once.members, fixed=forecaster.device.type == "cpu")
    step: DrawStep = draw
    if perturbation is not None and settings.method == "walks":
        past = dataset.read(_history(forecaster, init))
        step = Walks(forecaster, perturbation, dataset, tiling, init, settings, past)
    with closing(draw), Writer[MemberDone](waiting=at_once.members) as writer:
        yield from _draw_all(draw, step, store, writer, groups, assigned, leads, rollout_leads)


def _rollout_leads(forecaster: Forecaster, leads: Sequence[int], settings: SamplingSettings) -> list[int]:
    """Return the leads that are reached by one-hour steps."""
    return sorted(set(leads) - (set() if settings.method == "walks" else set(forecaster.leads)))


def _draw_all(
    draw: _Drawing,
    step: DrawStep,
    store: EnsembleStore,
    writer: Writer[MemberDone],
    groups: Callable[[Sequence[int]], Iterator[tuple[Sequence[int], list[int]]]],
    assigned: Sequence[int],
    leads: Sequence[int],
    rollout_leads: Sequence[int],
) -> Iterator[MemberDone]:
    """Draw the direct leads, then those of rollouts by `step`; members are written while the next are drawn."""
    forecaster, dataset, init = draw.forecaster, draw.dataset, draw.init
    direct = [
        (lead, group, requested)
        for lead in sorted(set(leads) - set(rollout_leads))
        for group, requested in groups(store.missing(assigned, lead))
    ]
    for number, (lead, group, requested) in enumerate(direct):
        started = time.perf_counter()
        for next_lead, next_group, _ in direct[number : number + 2]:
            draw.expect(next_group, next_lead)
        drawn = _step(draw, group, draw.settings.threads, init, lead, None)
        yield from _write(store, writer, drawn, group, requested, lead, started)
    unfinished = sorted({member for lead in rollout_leads for member in store.missing(assigned, lead)})
    past = dataset.read(_history(forecaster, init)) if unfinished else None
    for group, requested in groups(unfinished):
        assert past is not None
        started = time.perf_counter()
        last = max(lead for lead in rollout_leads if store.missing(requested, lead))
        advance = partial(_advance, draw, step, group, last)
        for lead, drawn in rollout(advance, init, past, dataset.variables):
            if lead in rollout_leads:
                yield from _write(store, writer, drawn, group, store.missing(requested, lead), lead, started)
                started = time.perf_counter()
            if lead == last:
                break
    yield from writer.rest()


def _advance(
    draw: _Drawing,
    step: DrawStep,
    members: Sequence[int],
    last: int,
    start: Hour,
    lead: int,
    pasts: Floats | None,
) -> Floats:
    """Draw the next hour of a rollout by `step` while the noise of the hour after it is drawn."""
    if step is draw:  # walks draw their noise themselves
        for ahead in range(lead, min(lead + 1, last) + 1):
            draw.expect(members, ahead)
    return _step(step, members, draw.settings.threads, start, lead, pasts)


def _step(step: DrawStep, members: Sequence[int], threads: int, start: Hour, lead: int, pasts: Floats | None) -> Floats:
    """Draw by `step` on `threads` CPU threads, without gradients."""
    with torch.inference_mode(), cpu_threads(threads):
        return step(members, start, lead, pasts)


def latest_init(dataset: Dataset, forecaster: Forecaster) -> Hour:
    """Return the latest hour for which the dataset has the whole history that the model needs.

    Raises:
        MissingInputError: There is no such hour.
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
    *,
    init: Hour,
    leads: Sequence[int] = (),
    settings: SamplingSettings,
    name: str | None = None,
    stored: Sequence[Path] = (),
    perturbation: Forecaster | None = None,
    tiling: Tiling | None = None,
) -> ForecastDescription:
    """Return the description that is stored with the ensemble.

    The identity consists of what a member depends on, and so excludes batch size and number of members.

    Args:
        forecaster: The model.
        dataset: Dataset with the history.
        init: Initial time.
        leads: Requested leads, hours, for which there is room besides those that the model was trained for.
        settings: Settings of sampling.
        name: Name of the model; by default the beginning of its hash.
        stored: Files of the same forecast, whose forcing and tiles are kept if any of them exists.
        perturbation: Model that perturbs states, for walks.
        tiling: Tiles of the domain; by default chosen by `settings` and memory.
    """
    settings = settings.of_method()
    forcing = described(choose(forecaster, dataset, init, settings, stored=stored))
    walks: dict[str, Any] = {}
    names = {"model": name or forecaster.sha256[:12]}
    how = "diffusion model"
    if perturbation is not None and settings.method == "walks":
        how = "walks about the reference forecast of"
        walks = {"method": "walks", "walks": settings.walks, "perturbation_sha256": perturbation.sha256}
        names["perturbation"] = settings.perturbation
    identity: dict[str, Any] = {
        "simulated": int(dataset.simulated),
        "analysis_lead": dataset.analysis_lead,
        "model_sha256": forecaster.sha256,
        "seed": settings.seed,
        "solver": settings.solver,
        "steps": settings.evaluations(forecaster.schedule.steps),
        **({"eta": settings.eta} if settings.solver == "ddim" and settings.eta else {}),
        **({"lead_correlation": settings.lead_correlation} if settings.lead_correlation else {}),
        **({"forcing": forcing} if forcing else {}),
        **walks,
        "guidance": settings.guidance,
        "precision": settings.precision,
        "tiles": str(tiling or choose_tiling(forecaster, dataset.grid, settings, stored=stored)),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    world = "convcast's simulated archive" if dataset.simulated else "NOAA HRRR"
    first, last = forecaster.description.training_hours
    information = {
        "title": f"{'SIMULATED ' if dataset.simulated else ''}convcast ensemble forecast from {init}Z",
        "source": f"convcast {__version__}: {how} {names['model']}, started from analyses of {world}",
        "convcast_version": __version__,
        **names,
        "training_hours": f"{first}/{last}",
        "settings_hash": digest,
    }
    every = tuple(sorted({*forecaster.leads, *leads}))
    return ForecastDescription(
        init, every, tuple(forecaster.leads), dataset.variables, dataset.grid, identity, information
    )


def _check(
    forecaster: Forecaster,
    dataset: Dataset,
    *,
    members: Sequence[int],
    leads: Sequence[int],
    settings: SamplingSettings,
) -> None:
    if not members or not leads:
        raise SettingsError("an ensemble needs at least one member and one lead", advice="use --members 50 --leads 1")
    if min(members) < 0 or max(members) > MAX_MEMBER:
        raise SettingsError(f"members are numbered from 0 to {MAX_MEMBER}", advice="use --members 0-49")
    rollout_leads = _rollout_leads(forecaster, leads, settings)
    if rollout_leads and 1 not in forecaster.leads:
        trained = ",".join(map(str, forecaster.leads))
        raise SettingsError(
            f"the model was not trained for a lead of {rollout_leads[0]} h, nor for steps of 1 h",
            advice=f"use --leads {trained}, or run `convcast train --model hourly --set model.leads=[1]`",
        )
    if settings.evaluations(forecaster.schedule.steps) > forecaster.schedule.steps:
        raise SettingsError(
            f"the model's diffusion process has {forecaster.schedule.steps} steps, but {settings.steps} were requested",
            advice=f"use --steps {forecaster.schedule.steps} or fewer",
        )
    _check_same_data(forecaster, dataset)


def _check_same_data(forecaster: Forecaster, dataset: Dataset) -> None:
    """Raise DamagedFileError if the model was trained on other fields, another grid or another world."""
    trained_on = forecaster.description
    fields, available = (" ".join(variable.name for variable in of.variables) for of in (forecaster, dataset))
    world, other = ("simulated", "real") if trained_on.simulated else ("real", "simulated")
    for differs, sentence in (
        (
            trained_on.simulated != dataset.simulated,
            f"the model was trained on {world} weather, the dataset is of {other} weather",
        ),
        (fields != available, f"the model has the fields {fields}, the dataset {available}"),
        (
            trained_on.analysis_lead != dataset.analysis_lead,
            f"the model was trained on analyses of lead {trained_on.analysis_lead}, "
            f"the dataset has those of lead {dataset.analysis_lead}",
        ),
        (
            trained_on.spacing != SPACING,
            f"the model was trained on cells of {trained_on.spacing:g} m, the dataset's are {SPACING:g} m",
        ),
    ):
        if differs:
            raise DamagedFileError(sentence, advice="train a model on this dataset with `convcast train`")


@dataclass
class _Drawing:
    """Draws members of one initial time, and encodes a condition once for all groups of members that share it."""

    forecaster: Forecaster
    dataset: Dataset
    tiling: Tiling
    init: Hour
    settings: SamplingSettings
    cached_tiles: int
    forcing: Choice
    _noise: NoiseAhead = field(init=False)
    _direct: tuple[int, TiledDenoiser] | None = None
    """The last denoiser that started from analyses, and its lead, hours."""

    def __post_init__(self) -> None:
        self._noise = NoiseAhead(self.settings.threads)

    def close(self) -> None:
        """End the threads that draw noise."""
        self._noise.close()

    def expect(self, members: Sequence[int], lead: int) -> None:
        """Begin to draw the noise from which these members will start."""
        self._noise.expect(self._noise_of(lead), members, lead)

    def _noise_of(self, lead: int) -> Callable[[int, int], Floats]:
        """Return the function that draws the noise of a member for a step of the solver."""
        settings, shape = self.settings, (len(self.forecaster.variables), *self.tiling.shape)
        correlation = settings.lead_correlation
        return lambda member, step: member_noise(
            settings.seed, self.init, member, lead, shape, step=step, lead_correlation=correlation
        )

    def __call__(self, members: Sequence[int], start: Hour, lead: int, pasts: Floats | None) -> Floats:
        """Draw fields (member, variable, y, x) at `lead` hours with one forecast from `start`, given the `pasts`."""

        def noise(step: int) -> Tensor:
            return send(self._noise.take(self._noise_of(lead), members, lead, step), self.forecaster.device)

        return self._denoiser(lead, start, pasts).draw(noise, self.settings)

    def _denoiser(self, lead: int, start: Hour, pasts: Floats | None) -> TiledDenoiser:
        ahead = lead - int((start - self.init) / HOUR)
        if pasts is None and self._direct is not None and self._direct[0] == ahead:
            return self._direct[1]
        self._direct = None  # frees its memory before the next one is allocated
        denoiser = TiledDenoiser.of_hours(
            self.forecaster,
            self.dataset,
            self.tiling,
            init=start,
            lead=ahead,
            guidance=self.settings.guidance,
            cached_tiles=self.cached_tiles,
            pasts=pasts,
            forcing=self.forcing.get(ahead) if pasts is None else None,
            threads=self.settings.threads,
        )
        if pasts is None:
            self._direct = ahead, denoiser
        return denoiser


def _groups(missing: Sequence[int], size: int, *, fixed: bool) -> Iterator[tuple[Sequence[int], list[int]]]:
    """Yield the members to draw together and, among them, those requested; `fixed` draws whole blocks of numbers."""
    if fixed:
        for first in sorted({member // size * size for member in missing}):
            yield range(first, first + size), [member for member in missing if first <= member < first + size]
    else:
        for start in range(0, len(missing), size):
            requested = list(missing[start : start + size])
            yield requested, requested


def _write(
    store: EnsembleStore,
    writer: Writer[MemberDone],
    drawn: Floats,
    group: Sequence[int],
    requested: Sequence[int],
    lead: int,
    started: float,
) -> Iterator[MemberDone]:
    """Queue the requested members of a group to be written, and yield members that have been written."""
    share = (time.perf_counter() - started) / max(1, len(requested))

    def write(member: int, fields: Floats) -> MemberDone:
        started = time.perf_counter()
        store.write(member, lead, fields)
        return MemberDone(store.description.init, member, lead, share + time.perf_counter() - started)

    for member in requested:
        yield from writer.submit(partial(write, member, drawn[group.index(member)]))


def _history(forecaster: Forecaster, init: Hour) -> Hours:
    hours: Hours = init + np.arange(1 - forecaster.settings.history, 1) * HOUR
    return hours
