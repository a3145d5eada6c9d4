"""`convcast preprocess`: add archived hours to the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convcast.cli.common.console import size, table
from convcast.cli.common.session import Command, DaskAddressOption, WorkersOption, verb
from convcast.errors import MissingInputError

if TYPE_CHECKING:
    from convcast.dataset import ForecastVerdict, HourVerdict


@verb()
def preprocess(
    command: Command,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", help="conus, southern-plains, …, rows and columns y0:y1,x0:x1, or degrees as 30N:37N,104W:94W."
        ),
    ] = None,
    max_missing: Annotated[
        float | None, typer.Option("--max-missing", help="Fraction of hours that may be rejected before exit code 3.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every stored hour, and restore damaged ones from the archive.")
    ] = False,
    workers: WorkersOption = 1,
    dask_address: DaskAddressOption = None,
) -> None:
    """Decode, check and append the archived hours that dataset.zarr does not hold yet.

    A damaged or implausible hour is reported and left out; no values are filled in. With model.forcing=hrrr, the
    archived HRRR forecasts that force the model are added too.
    """
    import time

    from convcast.archive import Archive, Forcing
    from convcast.dataset import preprocess as preprocess_hours, preprocess_forcing
    from convcast.files import folder_bytes
    from convcast.workers import Workers

    terminal = command.terminal
    flags: dict[str, dict[str, Any]] = {"dataset": {"region": region}, "archive": {"max_missing": max_missing}}
    workspace, settings = command.open(flags)
    archive = Archive(workspace.archive / "hrrr")
    available = archive.hours(*settings.dataset.leads)
    if len(available) == 0:
        raise MissingInputError(
            f"the archive of {workspace.root} holds no hour of lead {' and '.join(map(str, settings.dataset.leads))}",
            advice=f"run `convcast fetch --days 14 -w {workspace.root}`; where only f01 files exist, start another "
            "workspace with `convcast fetch --days 14 --analysis-lead 1 -w another`",
        )
    verdicts, begun = [], time.monotonic()
    units = preprocess_hours(
        archive,
        workspace.dataset,
        settings=settings.dataset,
        workers=Workers.chosen(workers, dask_address),
        verify=verify,
        tell=terminal.warn,
    )
    for verdict in terminal.track(
        units,
        total=None,
        title="preprocess",
        line=lambda v: f"{_named(v)} {v.status} in {v.seconds:.2f} s{f' ({v.reason})' * bool(v.reason)}",
        percent=lambda v: 100 * v.share,
    ):
        verdicts.append(verdict)
        last = {} if verdict.last is None else {"last": str(verdict.last)}
        workspace.record("preprocess", valid=str(verdict.valid), **last, status=verdict.status, reason=verdict.reason)
    counts: Counter[str] = Counter()
    for verdict in verdicts:
        counts[verdict.status] += verdict.hours
    forcing = Forcing.of(settings.model, settings.dataset.analysis_lead)
    forecasts: list[ForecastVerdict] = []
    if forcing is not None:
        stored_forecasts = preprocess_forcing(
            archive,
            workspace.dataset,
            forcing=forcing,
            max_missing_points=settings.dataset.max_missing_points,
            workers=Workers.chosen(workers, dask_address),
            verify=verify,
            tell=terminal.warn,
        )
        for forecast in terminal.track(
            stored_forecasts,
            total=None,
            title="forcing",
            line=lambda v: f"{v.forecast} {v.status} in {v.seconds:.2f} s{f' ({v.reason})' * bool(v.reason)}",
            percent=lambda v: 100 * v.share,
        ):
            forecasts.append(forecast)
            run = {"cycle": str(forecast.forecast.cycle), "lead": forecast.forecast.lead, "count": forecast.count}
            workspace.record("preprocess", **run, status=forecast.status, reason=forecast.reason)
    forecast_counts: Counter[str] = Counter()
    for forecast in forecasts:
        forecast_counts[forecast.status] += forecast.count
    bad = [verdict for verdict in verdicts if verdict.status == "rejected"]
    stored = folder_bytes(workspace.dataset)
    terminal.result(
        {
            "dataset": str(workspace.dataset),
            "new": counts.total(),
            "counts": dict(counts),
            "bytes": stored,
            "seconds": round(time.monotonic() - begun, 3),
            "rejected": [{"valid": str(v.valid), "reason": v.reason} for v in bad],
            **({} if forcing is None else {"forcing": _forcing(forecasts, forecast_counts)}),
        },
        table("new hours", *counts, rows=[[str(counts.total()), *(str(n) for n in counts.values())]]),
        *(
            [
                table(
                    "new forecasts",
                    *forecast_counts,
                    rows=[[str(forecast_counts.total()), *map(str, forecast_counts.values())]],
                )
            ]
            if forecasts
            else []
        ),
        f"{workspace.dataset} holds {size(stored)}",
    )
    if bad:
        summary = f"{len(bad)} of {counts.total()} hours were rejected; the first is {bad[0].valid}: {bad[0].reason}"
        if len(bad) > settings.archive.max_missing * counts.total():
            raise MissingInputError(summary, advice="see `convcast status`; fetch those hours again or go on without")
        terminal.warn(summary)
    bad_forecasts = [forecast for forecast in forecasts if forecast.status == "rejected"]
    if bad_forecasts:
        first, total = bad_forecasts[0], forecast_counts.total()
        summary = f"{len(bad_forecasts)} of {total} HRRR forecasts were rejected; the first is {first.forecast}: "
        summary += first.reason
        if len(bad_forecasts) > settings.archive.max_missing * total:
            raise MissingInputError(
                summary, advice="fetch them again, or go on without: the model runs without forcing"
            )
        terminal.warn(summary)


def _forcing(forecasts: Sequence[ForecastVerdict], counts: Counter[str]) -> dict[str, Any]:
    """Describe the new HRRR forecasts for JSON."""
    rejected = [
        {"cycle": str(v.forecast.cycle), "lead": v.forecast.lead, "reason": v.reason}
        for v in forecasts
        if v.status == "rejected"
    ]
    return {"new": counts.total(), "counts": dict(counts), "rejected": rejected}


def _named(verdict: HourVerdict) -> str:
    """Name a verdict's hour, or its first and last hour and their number."""
    if verdict.last is None:
        return str(verdict.valid)
    return f"{verdict.valid} to {verdict.last}, {verdict.hours} hours,"
