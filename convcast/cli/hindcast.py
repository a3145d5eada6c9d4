"""`convcast hindcast`: forecast days that training did not use, and score the forecasts."""

from __future__ import annotations

from typing import Annotated

import typer

from convcast.cli.common.chain import run_verb
from convcast.cli.common.session import Command, ModelOption, verb
from convcast.errors import MissingInputError


@verb()
def hindcast(
    command: Command,
    test_days: Annotated[
        float, typer.Option("--test-days", min=0.1, help="Days at the end of the dataset that training holds back.")
    ] = 4,
    every: Annotated[str, typer.Option("--every", help="Time between forecasts, as 6h.")] = "6h",
    members: Annotated[str | None, typer.Option("--members", help="As for `convcast sample`.")] = None,
    against: Annotated[list[str] | None, typer.Option("--against", help="As for `convcast verify`.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", min=0.01, help="As for `convcast train`.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="As for `convcast train`.")] = None,
    model: ModelOption = None,
) -> None:
    """Hold days back, train on the others, forecast the days held back and score the forecasts: one report.

    It runs `convcast train` if there is no model of this name, `convcast sample`, and `convcast verify --name
    hindcast`. An existing model is used as it is, with the days that its training held back.
    """
    from convcast.dataset import Dataset, Split, usable_inits
    from convcast.model import ModelDescription
    from convcast.model.checkpoint import DESCRIPTION
    from convcast.notation import parse_duration

    parse_duration(every, "h")
    terminal = command.terminal
    workspace, settings = command.open()
    name = model or settings.preset
    directory = workspace.model(name)
    common = ["-w", str(workspace.root), *(word for setting in command.assignments for word in ("--set", setting))]
    limits = [f"--max-minutes={max_minutes}"] if max_minutes is not None else []
    limits += [f"--max-steps={max_steps}"] if max_steps is not None else []
    if not (directory / DESCRIPTION).is_file():
        held = ["--set", f"split.test_days={test_days:g}"]
        run_verb(terminal, ["train", "--model", name, *limits, *common, *held], result=False)

    description = ModelDescription.read(directory)
    dataset = Dataset.open(workspace.dataset)
    test = Split.from_dict(description.split, dataset.hours).test
    inits = usable_inits(test, history=description.model.history, leads=description.model.leads)
    if len(inits) == 0:
        raise MissingInputError(
            f"the training of {name} held back {len(test)} hours, too few to forecast",
            advice="train another: "
            f"`convcast hindcast --model {name}-held --test-days {test_days:g} -w {workspace.root}`",
        )
    times = f"{inits[0]}/{inits[-1]}/{every}"
    drawn = ["--members", members] if members is not None else []
    run_verb(terminal, ["sample", "--model", name, "--init", times, *drawn, *common], result=False)
    beside = [word for baseline in against or () for word in ("--against", baseline)]
    run_verb(terminal, ["verify", "--init", times, "--name", "hindcast", *beside, *common], result=True)
    terminal.say(f"the report: {workspace.verification('hindcast') / 'report.html'}")
