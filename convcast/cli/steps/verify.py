"""`convcast verify`: score ensembles beside baselines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convcast.cli.common.console import Cell, table
from convcast.cli.common.session import Command, DaskAddressOption, WorkersOption, verb
from convcast.errors import MissingInputError, SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from convcast.errors import DamagedFileError
    from convcast.notation import Hours
    from convcast.verification import CaseScored, Verification
    from convcast.verification.data.truth import Truth
    from convcast.verification.results.verification import Facts
    from convcast.workspace import Workspace

ANALYSES, MRMS = NAMED = ("analyses", "mrms")
"""Truths that --truth names instead of a file."""
DRAWN_WITH = ("method", "walks", "perturbation", "seed", "solver", "steps", "eta", "guidance", "lead_correlation")
"""Attributes of a forecast that are settings of sampling with the same names."""


@verb()
def verify(
    command: Command,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            help="Baseline: persistence, climatology, advection, hrrr, time-lagged, refs, href, hrrrcast, raw (members "
            "before calibration) or exact (simulated archive); repeatable. Default: the first three; persistence alone "
            "with a --truth of another program.",
        ),
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="A time or a range (start/end/6h); all forecasts by default.")
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            "--ensemble",
            help="Any ensemble, instead of the workspace's forecasts: Zarr, NetCDF or GRIB2; repeated, or a pattern in "
            "quotes ('mem*.grib2'), if members, leads or initial times are in separate files.",
        ),
    ] = None,
    truth: Annotated[
        list[Path] | None,
        typer.Option(
            "--truth",
            help="analyses, mrms (radar scans of `fetch --what mrms`) or both (default: verification.truths); or files "
            "with fields (time, y, x): Zarr, NetCDF or GRIB2, repeated, or a pattern in quotes.",
        ),
    ] = None,
    within: Annotated[
        int | None,
        typer.Option(
            "--within",
            min=2,
            help="Score the extremes over all leads up to this one, hours, instead of each lead: events at any time.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Folder of the results under verification/.")] = "latest",
    output: Annotated[
        Path | None, typer.Option("--output", help="Folder of the results, verification/<name>/ by default.")
    ] = None,
    workers: WorkersOption = 1,
    dask_address: DaskAddressOption = None,
) -> None:
    """Score ensembles against the analyses of their valid times: fair CRPS, spread and error, reliability, ranks.

    Writes scores.json, scores.zarr, report.html and PNGs to verification/<name>/. Forecasts from within the model's
    training period are left out, and counted. Cases that were scored before are not scored again.

    With --ensemble and --truth it needs neither a workspace nor torch.
    """
    from dataclasses import replace

    from convcast.dataset import Dataset
    from convcast.notation import parse_hours
    from convcast.verification import evaluate
    from convcast.verification.data.gridded_files.fields import describe
    from convcast.verification.data.mrms import Mrms
    from convcast.verification.data.truth import Analyses, open_truth
    from convcast.verification.report.html import caveats, headline, product_table_rows, warnings
    from convcast.verification.report.save import save
    from convcast.verification.results.formats import system_name
    from convcast.workers import Workers
    from convcast.workspace import SETTINGS_FILE, open_workspace

    terminal = command.terminal
    if init and ensemble:
        raise SettingsError(
            "--init chooses among the workspace's forecasts and does not go with --ensemble",
            advice="leave out --init, or --ensemble",
        )
    inits = parse_hours(init) if init else None
    root = command.root
    known = (root / SETTINGS_FILE).is_file()
    workspace = None if ensemble and truth and not known and command.workspace_option is None else open_workspace(root)
    named = [str(path) for path in truth or () if str(path) in NAMED]
    if named and len(named) < len(truth or ()):
        raise SettingsError(
            f"--truth {named[0]} does not go with a file", advice="verify against each in a separate run"
        )
    judge = open_truth(*truth) if truth and not named else Analyses(Dataset.open(open_workspace(root).dataset))
    flags = {"verification": {"against": against or (["persistence"] if judge.dataset is None else None)}}
    settings = command.settings(workspace.settings_file if workspace else None, flags)
    options = settings.verification
    systems = options.against
    if settings.sampling.calibration and not (against or ensemble):
        systems = (*systems, "raw")  # compare raw and calibrated members
    if not (truth or ensemble):
        named = list(options.truths)
    judges: dict[str, Truth] = {ANALYSES: judge}
    if MRMS in named:
        scans = Mrms(open_workspace(root).archive, judge, options.radar_cells)
        judges = {MRMS: scans} if ANALYSES not in named else judges | {MRMS: scans}
    results = output or (workspace.verification(name) if workspace else Path("verification") / name)
    verifications: list[tuple[str, Verification]] = []
    damaged: list[DamagedFileError] = []
    for by, one in judges.items():
        evaluation = evaluate(
            ensemble or _forecasts(open_workspace(root), inits),
            one,
            against=systems,
            settings=options,
            workspace=workspace,
            foreign=bool(ensemble or (truth and not named)),
            within=within,
            keep=results / ("cases" if by == ANALYSES else f"cases-{by}"),
            workers=Workers.chosen(workers, dask_address),
        )
        for line in dict.fromkeys(map(describe, evaluation.files)):
            terminal.say(line)
        title = "verify" if len(judges) == 1 else f"verify by {by}"
        for scored in terminal.track(evaluation, total=len(evaluation), title=title, line=_describe):
            if workspace is not None:
                workspace.record("verify", init=str(scored.init), lead=scored.lead, name=name, refused=scored.refused)
        if evaluation.reused:
            terminal.say(f"{evaluation.reused} of {len(evaluation)} cases had been scored before")
        verifications.append((by, evaluation.result()))
        damaged += [error for error in evaluation.damaged if str(error) not in map(str, damaged)]
    verification = replace(verifications[0][1], beside=tuple(verifications[1:]))
    terminal.say("drawing the report")
    given = {
        "--against": systems,
        "--truth": truth or (judges if list(judges) != [ANALYSES] else ()),
        "--ensemble": ensemble or (),
        "--init": [init] if init else (),
        "--within": [within] if within else (),
        "--set": command.assignments,
    }
    words = [word for flag, values in given.items() for value in values for word in (flag, str(value))]
    made = [] if ensemble else [_sample_words(open_workspace(root), verification.facts)]
    commands = [shlex.join(["convcast", *one]) for one in (*made, ["verify", *words])]
    report, *_ = save(verification, results, commands)
    terminal.result(
        {"report": str(report), **verification.to_dict()},
        *(_table(one, lead, named=len(judges) > 1) for _, one in verifications for lead in one.facts.leads),
        *(
            table(
                "statement",
                "convcast",
                system,
                "difference",
                "convcast is",
                title=f"lead {lead} h, beside what {system_name(system)} publishes",
                rows=[[line.what, line.ours[0], line.theirs[0], line.difference, line.verdict] for line in lines],
            )
            for system in verification.facts.products
            for lead in verification.facts.leads
            if (lines := product_table_rows(verification, system, lead))
        ),
        *warnings(verification),
        *headline(verification),
        *caveats(verification),
        f"report: {report}",
    )
    for error in damaged[1:]:
        terminal.warn(str(error))
    if damaged:
        raise damaged[0]


def _sample_words(workspace: Workspace, facts: Facts) -> list[str]:
    """Return the command that draws the forecasts again, with the settings in the attributes of the newest one."""
    import numpy as np

    from convcast.notation import HOUR, parse_hour
    from convcast.stores import stored_attributes

    inits = np.array([parse_hour(init) for init in facts.inits])
    stored = stored_attributes(workspace.forecast(inits[-1]))
    every = np.gcd.reduce(np.diff(inits) // HOUR) if len(inits) > 1 else 0
    words = ["sample", "--init", f"{inits[0]}/{inits[-1]}/{every}h" if every else str(inits[0])]
    words += ["--members", str(facts.members), "--leads", ",".join(map(str, facts.window or facts.leads))]
    words += ["--model", str(stored["model"])] if "model" in stored else []
    sampling = {name: stored[name] for name in DRAWN_WITH if name in stored}
    if "calibration" in stored:
        sampling["calibration"] = "true"
    return words + [word for name, value in sampling.items() for word in ("--set", f"sampling.{name}={value}")]


def _forecasts(workspace: Workspace, inits: Hours | None) -> list[Path]:
    from convcast.notation import describe

    paths = (
        sorted(workspace.forecasts.glob("*.zarr"))
        if inits is None
        else [path for path in map(workspace.forecast, inits) if path.exists()]
    )
    if not paths:
        raise MissingInputError(
            f"there is no forecast{'' if inits is None else f' of {describe(inits)}'} in {workspace.forecasts}",
            advice="run `convcast sample`",
        )
    return paths


def _describe(scored: CaseScored) -> str:
    result = scored.refused or "CRPS " + " ".join(f"{name} {value:.3g}" for name, value in scored.crps.items())
    return f"{scored.init} lead {scored.lead} h, {result}"


def _table(verification: Verification, lead: int, *, named: bool) -> Table:
    """Make the table of one lead: fair CRPS with intervals, spread/error ratio and the paired verdict, by field.

    The title names the truth if `named`.
    """
    from convcast.verification.results.formats import interval, number

    facts = verification.facts
    systems = facts.systems

    def crps(field: str, system: str) -> Cell:
        row = verification.find(field, "crps", system, estimator="fair", lead_hours=lead)
        return (number(row), ends) if (ends := interval(row)) else number(row)

    advection = [("than", "advection")] if "advection" in systems else []
    rows = [
        [
            (variable.name, variable.sign),
            *(crps(variable.name, system) for system in systems),
            number(verification.find(variable.name, "spread_error_ratio", systems[0], lead_hours=lead), 2),
            *(verification.verdict(variable.name, lead).replace("no clear difference", "unclear") for _ in advection),
        ]
        for variable in verification.variables
    ]
    world = "SIMULATED world, " if facts.simulated else ""
    by = f", against {facts.truth}" if named else ""
    days = f"[{facts.confidence:.0%} interval over {facts.days} days]" if facts.days > 1 else "of one day"
    title = f"{world}lead {lead} h{by}: fair CRPS {days}, {facts.cases} cases"
    return table("field", *systems, ("spread", "/error"), *advection, title=title, rows=rows)
