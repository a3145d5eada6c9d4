"""`convcast sample`: draw ensembles from the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convcast.cli.common.session import Command, Session, verb

if TYPE_CHECKING:
    from convcast.dataset import Dataset
    from convcast.ensemble import MemberDone
    from convcast.model import Forecaster
    from convcast.notation import Hour


class Keep(StrEnum):
    """Parts of an ensemble that are kept."""

    members = "members"
    products = "products"
    both = "both"


@verb()
def sample(
    command: Command,
    init: Annotated[
        str, typer.Option("--init", help="latest, a time (2024-05-06T21) or a range (start/end/6h).")
    ] = "latest",
    members: Annotated[str | None, typer.Option("--members", help="50, or 0-49, or 3,17 (default: 50).")] = None,
    leads: Annotated[
        str | None,
        typer.Option(
            "--leads",
            help="Hours ahead, as 1,3 or 1-6 (default: all trained); others are chains of one-hour forecasts.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0)] = None,
    solver: Annotated[str | None, typer.Option("--solver", help="unipc, dpmpp_2m, ddim or ddpm.")] = None,
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
    model: Annotated[
        str | None, typer.Option("--model", help="Name of the model (default: the preset's name).")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")] = "auto",
) -> None:
    """Draw an ensemble into forecasts/<init>.zarr; members already complete are kept.

    On several GPUs: torchrun --nproc-per-node 4 -m convcast sample --members 50
    """
    from contextlib import nullcontext

    from convcast.cli.common.console import table
    from convcast.dataset import Dataset
    from convcast.ensemble import latest_init
    from convcast.errors import MissingInputError
    from convcast.files import lock
    from convcast.model import Forecaster, rank_and_world_size, sum_over_processes
    from convcast.notation import parse_hours, parse_leads, parse_members

    rank, world_size = rank_and_world_size()
    first = rank == 0
    terminal = command.terminal
    terminal.quiet |= not first
    asked = parse_members(members) if members is not None else None
    times = None if init == "latest" else list(parse_hours(init))
    chosen = {"seed": seed, "solver": solver, "steps": steps, "guidance": guidance, "memory": memory}
    flags = {"sampling": chosen | {"keep": keep.value if keep else None}}
    session = command.open(flags)
    dataset = Dataset.open(session.workspace.dataset)
    name = model or session.settings.preset
    precision = session.settings.sampling.precision
    forecaster = Forecaster.load(session.workspace.model(name), device=device, precision=precision)
    numbers = asked or tuple(range(session.settings.sampling.members))
    hours = parse_leads(leads) if leads is not None else forecaster.leads
    inits = [latest_init(dataset, forecaster)] if times is None else times
    run = _Run(session, dataset, forecaster, name, inits, numbers, hours, rank, world_size)

    drawn: list[MemberDone] = []
    with lock(session.workspace.lock("sample"), "sampling in this workspace") if first else nullcontext():
        for done in terminal.track(
            run.units(),
            total=len(inits) * len(numbers) * len(hours),
            title="sample",
            line=lambda d: f"{d.init} member {d.member} lead {d.lead} h, {d.seconds:.1f} s",
        ):
            drawn.append(done)
            session.workspace.record("sample", init=str(done.init), member=done.member, lead=done.lead)
        drawn_by_all = sum_over_processes(len(drawn))
    if not first:
        return
    made = [hour for hour in inits if hour not in run.missing]
    workspace = session.workspace
    forecasts = [str(workspace.forecast(hour)) for hour in made] if run.keep != "products" else []
    products = [str(workspace.product(hour)) for hour in made] if run.keep != "members" else []
    paths = products or forecasts
    terminal.result(
        {
            "forecasts": forecasts,
            "products": products,
            "drawn": drawn_by_all,
            "missing": [str(hour) for hour in run.missing],
            "members": len(numbers),
            "leads": list(hours),
        },
        table(
            "forecasts",
            "members",
            "leads",
            "drawn now",
            rows=[[str(len(made)), str(len(numbers)), ",".join(map(str, hours)), str(drawn_by_all)]],
        ),
        paths[0] if len(paths) == 1 else f"{paths[0]} … {paths[-1]}" if paths else "nothing",
    )
    if len(run.missing) > session.settings.archive.max_missing * len(inits):
        raise MissingInputError(
            f"{len(run.missing)} of {len(inits)} inits lack history in the dataset; the first is {run.missing[0]}",
            advice="fetch and preprocess the hours before them",
        )


@dataclass
class _Run:
    """The part of the requested ensembles that one process draws."""

    session: Session
    dataset: Dataset
    forecaster: Forecaster
    name: str
    inits: list[Hour]
    members: tuple[int, ...]
    leads: tuple[int, ...]
    rank: int
    world_size: int
    missing: list[Hour] = field(default_factory=list)
    """Initial times without history, which are skipped where several were requested."""

    def __post_init__(self) -> None:
        sampling = self.session.settings.sampling
        self.keep = sampling.keep
        self._sampling = sampling.model_copy(update={"precision": self.forecaster.precision})

    def units(self) -> Iterator[MemberDone]:
        """Yield finished members; products are made after the last member of an initial time."""
        from convcast.errors import MissingInputError

        for init in self.inits:
            try:
                yield from self._members(init) if self.keep == "members" else self._products(init)
            except MissingInputError:
                if len(self.inits) == 1:
                    raise
                self.missing.append(init)

    def _members(self, init: Hour, path: Path | None = None) -> Iterator[MemberDone]:
        from convcast.ensemble import sample as draw

        return draw(
            self.forecaster,
            self.dataset,
            path or self.session.workspace.forecast(init),
            init=init,
            members=self.members,
            leads=self.leads,
            settings=self._sampling,
            name=self.name,
            rank=self.rank,
            world_size=self.world_size,
        )

    def _products(self, init: Hour) -> Iterator[MemberDone]:
        from convcast.ensemble import describe, make_products, readable_leads
        from convcast.files import discard

        workspace, settings = self.session.workspace, self.session.settings.products
        target, temporary = workspace.product(init), workspace.temporary_members(init)
        description = describe(
            self.forecaster, self.dataset, init=init, leads=self.leads, settings=self._sampling, name=self.name
        )
        there = readable_leads(target, description, self.members, settings)
        if self.keep == "products" and set(self.leads) <= there:
            return
        # Members that an earlier run kept are used and stay.
        path = workspace.forecast(init)
        if self.keep == "products" and not path.exists():
            path = temporary
        yield from self._members(init, path)
        self.session.terminal.say(f"making products of {len(self.members)} members of {init}")
        done = make_products(path, target, description, members=self.members, leads=self.leads, settings=settings)
        if done and path == temporary:
            discard(temporary)
