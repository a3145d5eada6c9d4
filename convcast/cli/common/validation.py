"""Show the scores of a training's last validation, read from its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convcast.cli.common.console import table
from convcast.variables import FIELDS

if TYPE_CHECKING:
    from rich.table import Table

ANY = "any echo"
"""Name of the event that a field has any value above its floor."""


def last_validation(reports: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the newest report of a training's log that has scores of validation ensembles."""
    scored = (r for r in reversed(reports) if isinstance(r.get("validation"), dict) and r["validation"].get("fields"))
    return next(scored, None)


def draw_validation(model: str, report: dict[str, Any]) -> list[Table | str]:
    """Make the tables of a validation: scores by field, and frequency bias by event and lead time.

    Args:
        model: Name of the model.
        report: A report of `last_validation`. One of an earlier version, or a damaged one, gives no tables.
    """
    try:
        validation = report["validation"]
        skills = validation["fields"]
        rows = [
            [
                name,
                f"{skill['crps'] / skill['persistence']:.2f}",
                f"{skill['spread_error']:.2f}",
                f"{skill['rmse'] / skill['reference_rmse']:.2f}",
                "-" if skill["log_spectral_distance"] is None else f"{skill['log_spectral_distance']:.1f} dB",
            ]
            for name, skill in skills.items()
        ]
        biases = {
            f"{name} {_event(name, event['threshold'])}, {event['lead']} h": event["forecast"] / event["observed"]
            for name, skill in skills.items()
            if FIELDS[name].floor is not None
            for event in skill["events"]
            if event["observed"] > 0
        }
        title = (
            f"validation of {model} after step {report['step']}: {validation['members']} members, "
            f"{validation['cases']} cases, {validation['first']} to {validation['last']}"
        )
    except (KeyError, TypeError, ZeroDivisionError, ValueError):
        return []
    heads = ("field", "CRPS/persistence", "spread/error", "RMSE of the mean/reference", "spectra")
    shown: list[Table | str] = ["", table(*heads, title=title, rows=rows)]
    if biases:
        biased = [[event, f"{bias:.2f}"] for event, bias in biases.items()]
        shown += ["", table("event", "forecast/observed", title="frequency bias in validation", rows=biased)]
    return shown


def _event(name: str, threshold: float | None) -> str:
    return ANY if threshold is None else f"≥ {threshold:g} {FIELDS[name].units}"
