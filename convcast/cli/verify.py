"""`convcast verify`: ensembles against analyses, beside baselines."""

from __future__ import annotations

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
    from rich.table import Table

    from convcast.verification import Verification


@verb
def verify(
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="persistence, climatology, control, or exact (simulated archive); repeated "
            "[default: persistence climatology control].",
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="A time or a range (start/end/6h) [default: all forecasts].")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Folder of the results under verification/.")] = "latest",
    settings: SetOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score ensembles against the analyses of their valid times: fair CRPS, spread and error, reliability, ranks.

    Writes scores.json, scores.zarr, report.html and PNGs to verification/<name>/. Forecasts from within the model's
    training period are left out, and counted.
    """
    from convcast.cli.console import Terminal
    from convcast.dataset import Dataset
    from convcast.errors import MissingInputError
    from convcast.notation import parse_hours
    from convcast.verification import evaluate
    from convcast.verification.report import caveats, headline

    terminal = Terminal(as_json=as_json, verbose=verbose, quiet=quiet)
    flags = {"verification": {"against": against or None}}
    session = begin(terminal, workspace, assignments=settings, flags=flags)
    place, options = session.workspace, session.settings.verification
    dataset = Dataset.open(place.dataset)
    paths = (
        sorted(place.forecasts.glob("*.zarr"))
        if init is None
        else [path for path in map(place.forecast, parse_hours(init)) if path.exists()]
    )
    if not paths:
        raise MissingInputError(
            f"there is no forecast{f' of {init}' if init else ''} in {place.forecasts}",
            advice="run `convcast sample`",
        )
    evaluation = evaluate(paths, dataset, against=options.against, settings=options, workspace=place)
    for scored in terminal.track(
        evaluation,
        total=len(evaluation),
        title="verify",
        line=lambda c: f"{c.init} lead {c.lead} h, CRPS " + " ".join(f"{n} {v:.3g}" for n, v in c.crps.items()),
    ):
        place.record("verify", init=str(scored.init), lead=scored.lead, name=name)
    terminal.say("drawing the report")
    verification = evaluation.result()
    report, *_ = verification.save(place.verification(name))
    terminal.result(
        {"report": str(report), **verification.to_dict()},
        *(_table(verification, lead) for lead in verification.facts.leads),
        "\n".join([*headline(verification), *caveats(verification)]),
        f"report: {report}",
    )


def _table(verification: Verification, lead: int) -> Table:
    """One row a field: fair CRPS with its interval for each system, spread over error, and the paired verdict."""
    from convcast.cli.console import table

    facts = verification.facts
    systems = facts.systems

    def crps(field: str, system: str) -> str:
        row = verification.find(field, "crps", system, estimator="fair", lead_hours=lead)
        if row is None or row["value"] is None:
            return "-"
        text = f"{row['value']:.3g}"
        return text if row["low"] is None else f"{text}\n{row['low']:.3g} – {row['high']:.3g}"

    def spread(field: str) -> str:
        row = verification.find(field, "spread_error_ratio", systems[0], lead_hours=lead)
        return "-" if row is None or row["value"] is None else f"{row['value']:.2f}"

    control = ["than\ncontrol"] if "control" in systems else []
    rows = [
        [
            f"{variable.name}\n{variable.units}",
            *(crps(variable.name, system) for system in systems),
            spread(variable.name),
            *(verification.verdict(variable.name, lead).replace("no clear difference", "unclear") for _ in control),
        ]
        for variable in verification.variables
    ]
    world = "SIMULATED world, " if facts.simulated else ""
    title = (
        f"{world}lead {lead} h: fair CRPS [{facts.confidence:.0%} interval over {facts.days} days], {facts.cases} cases"
    )
    return table("field", *systems, "spread\n/error", *control, title=title, rows=rows)
