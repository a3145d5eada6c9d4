"""`convcast cycle`: run everything that is due, every hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.common.console import described, duration, table
from convcast.cli.common.session import Command, ModelOption, verb
from convcast.errors import ConvcastError

if TYPE_CHECKING:
    from convcast.operations.stages import StageResult


@verb()
def cycle(
    command: Command,
    max_catch_up: Annotated[
        str | None, typer.Option("--max-catch-up", help="How far back to catch up on missing hours (default: 24h).")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", help="Stop cleanly after this time (default: 50m).")
    ] = None,
    source: Annotated[list[str] | None, typer.Option("--source", help="As for `convcast fetch`.")] = None,
    model: ModelOption = None,
    now: Annotated[
        str | None,
        typer.Option("--now", help="Time to take for now (UTC), to rehearse on past or simulated hours."),
    ] = None,
) -> None:
    """Fetch, preprocess, sample the newest hour, verify, catch up, publish and prune what is due. Run it every hour.

    It is safe to start at any time: a second cycle exits with 5 at once, and one without anything due takes seconds.
    Exit code 4 means that the newest hour is not published yet and that everything else was done.
    """
    from convcast.files import lock
    from convcast.notation import parse_duration
    from convcast.operations.cycle import Cycle
    from convcast.operations.inventory import InventoryReader
    from convcast.operations.status import current_time, simulated

    terminal = command.terminal
    flags: dict[str, dict[str, Any]] = {
        "archive": {"sources": source or None},
        "operations": {
            "max_catch_up": None if max_catch_up is None else parse_duration(max_catch_up, "h") / 3600,
            "deadline": None if deadline is None else parse_duration(deadline, "m") / 60,
        },
    }
    workspace, settings = command.open(flags)
    clock = current_time(now, settings, workspace)
    rehearsal = ["--now", str(clock)] if now is not None or simulated(settings, workspace) else []
    run = Cycle(
        InventoryReader(workspace, settings, model=model),
        clock,
        words=[word for assignment in command.assignments for word in ("--set", assignment)],
        fetch_words=[*(word for name in source or () for word in ("--source", name)), *rehearsal],
        sample_words=["--model", model] if model else [],
        rehearsal=now is not None,
    )
    with lock(workspace.lock("cycle"), "cycling in this workspace"):
        done: list[StageResult] = []
        for stage in run:
            done.append(stage)
            terminal.say(f"{stage.stage} {stage.about}: {stage.outcome}, {duration(stage.seconds)}")
            if stage.code not in (0, 4, 5):
                terminal.warn(f"{stage.stage}: {stage.error}")
    for note in run.entry["notes"]:
        terminal.say(note) if run.code in (0, 4) else terminal.warn(note)
    value = run.entry
    if run.code:
        bad = next((f"{stage.stage}: {stage.error}" for stage in done if stage.code == run.code and stage.error), "")
        ended = ConvcastError(
            "; ".join(filter(None, [f"the cycle ended {run.entry['outcome']}", bad, *run.entry["notes"]])),
            advice="see `convcast status`",
        )
        value = value | described(ended) | {"exit_code": run.code}
    terminal.result(
        value,
        table(
            "stage",
            "about",
            "outcome",
            "time",
            rows=[[one.stage, one.about, one.outcome, duration(one.seconds)] for one in done],
            left=3,
        ),
        f"{run.entry['outcome']}, newest forecast {run.entry['newest'] or 'none'}",
    )
    if run.code:
        raise typer.Exit(run.code)
