"""`convcast sample`: ensembles from the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from convcast.cli.session import (
    JsonOption,
    QuietOption,
    SetOption,
    VerboseOption,
    WorkspaceOption,
    begin,
    verb,
)

if TYPE_CHECKING:
    from convcast.ensemble import MemberDone
    from convcast.notation import Hour


@verb
def sample(
    init: Annotated[
        str, typer.Option("--init", help="latest, a time (2024-05-06T21) or a range (start/end/6h).")
    ] = "latest",
    members: Annotated[str | None, typer.Option("--members", help="50, or 0-49, or 3,17 (default: 50).")] = None,
    leads: Annotated[str | None, typer.Option("--leads", help="Hours ahead, as 1,3 (default: all trained).")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0)] = None,
    solver: Annotated[str | None, typer.Option("--solver", help="dpmpp_2m, unipc, ddim or ddpm.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Network evaluations a member.")] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", min=0, help="1: as trained; below 1 leans towards average spread.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model's name (default: its preset).")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")] = "auto",
    settings: SetOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw an ensemble into forecasts/<init>.zarr; members already complete are kept."""
    from convcast.cli.console import Terminal, table
    from convcast.dataset import Dataset
    from convcast.ensemble import latest_init, sample as draw
    from convcast.errors import MissingInputError
    from convcast.files import lock
    from convcast.model import Forecaster
    from convcast.notation import parse_hours, parse_leads, parse_members

    terminal = Terminal(as_json=as_json, verbose=verbose, quiet=quiet)
    asked = parse_members(members) if members is not None else None
    flags = {"sampling": {"seed": seed, "solver": solver, "steps": steps, "guidance": guidance}}
    session = begin(terminal, workspace, assignments=settings, flags=flags)
    options = session.settings.sampling
    dataset = Dataset.open(session.workspace.dataset)
    name = model or session.settings.preset
    forecaster = Forecaster.load(session.workspace.model(name), device=device, precision=options.precision)
    options = options.model_copy(update={"precision": forecaster.precision})
    numbers = asked or tuple(range(options.members))
    hours = parse_leads(leads) if leads is not None else forecaster.leads
    inits = [latest_init(dataset, forecaster)] if init == "latest" else list(parse_hours(init))

    def draw_init(hour: Hour) -> Iterator[MemberDone]:
        path = session.workspace.forecast(hour)
        return draw(forecaster, dataset, path, init=hour, members=numbers, leads=hours, settings=options, name=name)

    drawn: list[MemberDone] = []
    missing: list[Hour] = []
    with lock(session.workspace.lock("sample"), "sampling in this workspace"):
        units = _draw_all(inits, draw_init, missing)
        for done in terminal.track(
            units,
            total=len(inits) * len(numbers) * len(hours),
            title="sample",
            line=lambda d: f"{d.init} member {d.member} lead {d.lead} h, {d.seconds:.1f} s",
        ):
            drawn.append(done)
            session.workspace.record("sample", init=str(done.init), member=done.member, lead=done.lead)
    paths = [str(session.workspace.forecast(hour)) for hour in inits]
    terminal.result(
        {
            "forecasts": [path for path, hour in zip(paths, inits, strict=True) if hour not in missing],
            "drawn": len(drawn),
            "missing": [str(hour) for hour in missing],
            "members": len(numbers),
            "leads": list(hours),
        },
        table(
            "forecasts",
            "members",
            "leads",
            "drawn now",
            rows=[[str(len(inits) - len(missing)), str(len(numbers)), ",".join(map(str, hours)), str(len(drawn))]],
        ),
        paths[0] if len(paths) == 1 else f"{paths[0]} … {paths[-1]}",
    )
    if len(missing) > session.settings.archive.max_missing * len(inits):
        raise MissingInputError(
            f"{len(missing)} of {len(inits)} inits lack history in the dataset; the first is {missing[0]}",
            advice="fetch and preprocess the hours before them",
        )


def _draw_all(
    inits: list[Hour], draw_init: Callable[[Hour], Iterator[MemberDone]], missing: list[Hour]
) -> Iterator[MemberDone]:
    """Members of one init after another; of several, one without history is noted in `missing` and passed over."""
    from convcast.errors import MissingInputError

    for init in inits:
        try:
            yield from draw_init(init)
        except MissingInputError:
            if len(inits) == 1:
                raise
            missing.append(init)
