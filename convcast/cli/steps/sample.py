"""`convcast sample`: draw ensembles from the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.common.console import Terminal, table
from convcast.cli.common.session import Command, InitOption, ModelOption, verb
from convcast.errors import MissingInputError, SettingsError

if TYPE_CHECKING:
    from convcast.ensemble import MemberDone
    from convcast.forecasts.calibration import Calibration
    from convcast.forecasts.store import ForecastDescription
    from convcast.model import Forecaster
    from convcast.notation import Hour
    from convcast.settings import SamplingSettings, Settings
    from convcast.workspace import Workspace


class Keep(StrEnum):
    """Parts of an ensemble that are kept."""

    members = "members"
    products = "products"
    both = "both"


@verb()
def sample(
    command: Command,
    init: InitOption = "latest",
    members: Annotated[str | None, typer.Option("--members", help="50, or 0-49, or 3,17 (default: 50).")] = None,
    leads: Annotated[
        str | None,
        typer.Option(
            "--leads",
            help="Hours ahead, as 1,3 or 1-6 (default: all trained); others are chains of one-hour forecasts.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the members' noise.")] = None,
    solver: Annotated[str | None, typer.Option("--solver", help="exponential, unipc, dpmpp_2m, ddim or ddpm.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Network evaluations per member.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0, help="1: as trained; below 1: closer to the average spread.")
    ] = None,
    keep: Annotated[
        Keep | None,
        typer.Option("--keep", help="Members, or products (probabilities, mean, spread, …; a small disk), or both."),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option("--memory", help="Memory limit of GPU or machine, GB (default: most of what is free)."),
    ] = None,
    model: ModelOption = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Draw an ensemble into forecasts/<init>.zarr; members already complete are kept.

    On several GPUs: torchrun --nproc-per-node 4 -m convcast sample --members 50
    """
    from contextlib import nullcontext

    from convcast.dataset import Dataset
    from convcast.ensemble import choose, describe, described, latest_init, notes, sample as draw_members
    from convcast.files import lock
    from convcast.forecasts.calibrated import choose_calibration, describe_calibrated, write_calibrated
    from convcast.forecasts.open import model_identity
    from convcast.metrics.regimes import sort_points
    from convcast.model import Forecaster, rank_and_world_size, sum_over_processes
    from convcast.notation import parse_hours, parse_leads, parse_members

    rank, world_size = rank_and_world_size()
    first = rank == 0
    terminal = command.terminal
    terminal.quiet |= not first
    asked = parse_members(members) if members is not None else None
    times = None if init == "latest" else list(parse_hours(init))
    chosen = {"seed": seed, "solver": solver, "steps": steps, "guidance": guidance, "memory": memory}
    workspace, settings = command.open({"sampling": chosen | {"keep": keep.value if keep else None}})
    dataset = Dataset.open(workspace.dataset)
    name = model or settings.preset
    forecaster = Forecaster.load(workspace.model(name), device=device, precision=settings.sampling.precision)
    numbers = asked or tuple(range(settings.sampling.members))
    hours = parse_leads(leads) if leads is not None else forecaster.leads
    inits = [latest_init(dataset, forecaster)] if times is None else times
    kept = settings.sampling.keep
    sampling = settings.sampling.of_method().model_copy(update={"precision": forecaster.precision})
    perturbation = _perturbation(workspace, sampling, device) if sampling.method == "walks" else None
    shared: dict[str, Any] = {"leads": hours, "settings": sampling, "name": name, "perturbation": perturbation}
    missing: list[Hour] = []

    def draw(hour: Hour, path: Path) -> Iterator[MemberDone]:
        parts: dict[str, Any] = {"members": numbers, "rank": rank, "world_size": world_size}
        target = workspace.raw_forecast(hour) if sampling.calibration else path
        yield from draw_members(forecaster, dataset, target, init=hour, stored=files(hour), **parts, **shared)
        if sampling.calibration:
            sum_over_processes(0)  # all processes have drawn their members
            if first:
                calibrate(hour, target, path)

    def calibrate(hour: Hour, raw: Path, path: Path) -> None:
        description = describe(forecaster, dataset, init=hour, stored=files(hour), **shared)
        learnt = chosen_for(hour, description, path, workspace.product(hour))
        known = dict(zip((v.name for v in dataset.variables), dataset.read([hour])[0], strict=True))
        write_calibrated(
            raw,
            path,
            description,
            learnt,
            members=numbers,
            leads=hours,
            regimes=sort_points(known.get("refc"), known.get("cape")),
        )
        by = "nothing is learnt yet: they are as drawn" if learnt is None else f"learnt until {learnt.last}"
        terminal.say(f"calibrated members of {hour}, {by}")

    def chosen_for(hour: Hour, description: ForecastDescription, *written: Path) -> Calibration | None:
        model = model_identity(description.identity)
        return choose_calibration(workspace.calibrations, written, hour, model)

    def files(hour: Hour) -> tuple[Path, ...]:
        stored = workspace.forecast(hour), workspace.temporary_members(hour), workspace.product(hour)
        return (workspace.raw_forecast(hour), *stored) if sampling.calibration else stored

    def draw_all() -> Iterator[MemberDone]:
        for hour in inits:
            try:
                if kept == "members":
                    yield from draw(hour, workspace.forecast(hour))
                else:
                    description = describe(forecaster, dataset, init=hour, stored=files(hour), **shared)
                    if sampling.calibration:
                        learnt = chosen_for(hour, description, *files(hour)[1:])
                        description = describe_calibrated(description, learnt, len(set(numbers)))
                    yield from _with_products(terminal, workspace, settings, description, numbers, hours, draw)
            except MissingInputError:
                if len(inits) == 1:
                    raise
                missing.append(hour)

    drawn = 0
    with lock(workspace.lock("sample"), "sampling in this workspace") if first else nullcontext():
        for done in terminal.track(
            draw_all(),
            total=len(inits) * len(numbers) * len(hours),
            title="sample",
            line=lambda d: f"{d.init} member {d.member} lead {d.lead} h, {d.seconds:.1f} s",
        ):
            drawn += 1
            workspace.record("sample", init=str(done.init), member=done.member, lead=done.lead)
        drawn = sum_over_processes(drawn)
    if not first:
        return
    made = [hour for hour in inits if hour not in missing]
    forcing = {hour: choose(forecaster, dataset, hour, sampling, stored=files(hour)) for hour in made}
    forcing_notes = [note for hour, choice in forcing.items() for note in notes(forecaster, hour, choice)]
    if forcing_notes and sampling.forcing:
        more = f" (and {len(forcing_notes) - 1} more such leads or initial times)" if len(forcing_notes) > 1 else ""
        terminal.warn(forcing_notes[0] + more)
    forecasts = [str(workspace.forecast(hour)) for hour in made] if kept != "products" else []
    products = [str(workspace.product(hour)) for hour in made] if kept != "members" else []
    paths = products or forecasts
    counts = [str(len(made)), str(len(numbers)), ",".join(map(str, hours)), str(drawn)]
    terminal.result(
        {
            "forecasts": forecasts,
            "products": products,
            "drawn": drawn,
            "missing": [str(hour) for hour in missing],
            "members": len(numbers),
            "leads": list(hours),
            **(
                {"forcing": {str(hour): described(choice) for hour, choice in forcing.items()}}
                if forecaster.forcing
                else {}
            ),
            **({"notes": forcing_notes} if forcing_notes and sampling.forcing else {}),
        },
        table("forecasts", "members", "leads", "drawn now", rows=[counts]),
        paths[0] if len(paths) == 1 else f"{paths[0]} … {paths[-1]}" if paths else "nothing",
    )
    if len(missing) > settings.archive.max_missing * len(inits):
        raise MissingInputError(
            f"{len(missing)} of {len(inits)} inits lack history in the dataset; the first is {missing[0]}",
            advice="fetch and preprocess the hours before them",
        )


def _perturbation(workspace: Workspace, settings: SamplingSettings, device: str) -> Forecaster:
    """Load the model that perturbs states."""
    from convcast.ensemble import TRAIN_PERTURBATION
    from convcast.model import Forecaster

    directory = workspace.model(settings.perturbation)
    if not directory.is_dir():
        raise SettingsError(
            f"walks need a model that perturbs states, and there is no {directory}",
            advice=TRAIN_PERTURBATION.format(name=settings.perturbation),
        )
    return Forecaster.load(directory, device=device, precision=settings.precision)


def _with_products(
    terminal: Terminal,
    workspace: Workspace,
    settings: Settings,
    description: ForecastDescription,
    members: Sequence[int],
    leads: Sequence[int],
    draw: Callable[[Hour, Path], Iterator[MemberDone]],
) -> Iterator[MemberDone]:
    """Yield the members of one initial time as they are finished, and make their products after the last one."""
    from convcast.files import discard
    from convcast.forecasts.products import make_products, readable_leads

    init, only_products = description.init, settings.sampling.keep == "products"
    target, temporary = workspace.product(init), workspace.temporary_members(init)
    readable = readable_leads(target, description, members, settings.products)
    if only_products and set(leads) <= readable:
        return
    # Members that an earlier run stored are used and not deleted.
    path = workspace.forecast(init)
    if only_products and not path.exists():
        path = temporary
    yield from draw(init, path)
    terminal.say(f"making products of {len(members)} members of {init}")
    done = make_products(path, target, description, members=members, leads=leads, settings=settings.products)
    if done and path == temporary:
        discard(temporary)
