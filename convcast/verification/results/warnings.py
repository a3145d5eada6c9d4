"""Sentences that warn a forecaster of faults that verification has found in the forecasts.

A warning needs an interval that excludes the right value, and a fault that is large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convcast.errors import DamagedFileError
from convcast.files import read_json
from convcast.metrics import MODEL
from convcast.variables import U10, V10, Variable
from convcast.verification.results.formats import interval, number
from convcast.verification.results.table import Row, find

MATTERS = 1.1
"""Minimum ratio to the right value (or of the right value to it) for a fault to be reported."""


def warnings_of(scores: Sequence[Row], variable: Variable, lead: int) -> list[str]:
    """Return the warnings about a field at a lead, hours, from the rows of a verification.

    Args:
        scores: Rows of the verification.
        variable: The field.
        lead: Lead time, hours.
    """
    rows = [
        row
        for row in scores
        if (row["field"], row["lead_hours"], row["system"]) == (variable.name, lead, MODEL)
        and not {"regime", "truth"} & set(row)
    ]
    return [*_frequency(rows, variable), *_reliability(rows, variable), *_spread(rows, variable)]


def warnings_of_model(folder: Path, model: str, variable: Variable, lead: int) -> list[str]:
    """Return the warnings about a field at a lead of the newest verification of a model, by leads.

    Args:
        folder: Folder with a folder for each verification.
        model: Identity of the model, as forecasts have it in their attributes.
        variable: Field.
        lead: Lead time, hours.
    """
    newest = sorted(folder.glob("*/scores.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in newest:
        try:
            document = read_json(path)
            facts = document["facts"]
            if model in facts["models"] and not facts.get("window"):
                return warnings_of(document["scores"], variable, lead)
        except (DamagedFileError, FileNotFoundError, KeyError, TypeError):
            continue  # maps are drawn without warnings rather than not at all
    return []


def warnings_of_map(folder: Path, model: str, kind: str, variable: Variable, lead: int) -> tuple[str, ...]:
    """Return the warnings that a map carries: those of its field, and those of both components on a map of the wind.

    Args:
        folder: As for `warnings_of_model`, like `model` and `lead`.
        model: Identity of the model.
        kind: Kind of the map.
        variable: Field of the map; a map of the wind does not depend on it.
        lead: Lead time, hours.
    """
    shown = (U10, V10) if kind == "wind" else (variable,)
    return tuple(sentence for one in shown for sentence in warnings_of_model(folder, model, one, lead))


def _frequency(rows: Sequence[Row], variable: Variable) -> Iterator[str]:
    """Yield a warning about the threshold with the most wrong frequency."""
    off = [row for row in rows if row["score"] == "frequency_bias" and _excludes(row, 1.0) and _matters(row["value"])]
    if off:
        worst = max(off, key=lambda row: abs(math.log(max(row["value"], 1e-9))))
        event = variable.event(worst["threshold"])
        yield f"{event} is forecast {_how_often(worst['value'])} ({interval(worst)} times as often as observed)."


def _reliability(rows: Sequence[Row], variable: Variable) -> Iterator[str]:
    """Yield a warning about the threshold with the worst probabilities, if its mean frequency is a better forecast."""
    off = [row for row in rows if row["score"] == "brier_skill" and row["high"] is not None and row["high"] < 0]
    if off:
        worst = min(off, key=lambda row: float(row["value"]))
        yield (
            f"Probabilities of {variable.event(worst['threshold'])} are not reliable: its mean frequency is a better "
            f"forecast (Brier skill {number(worst)}, {interval(worst)})."
        )


def _spread(rows: Sequence[Row], variable: Variable) -> Iterator[str]:
    row = find(rows, score="spread_error_ratio_centred")
    if row is not None and _excludes(row, 1.0) and _matters(row["value"]):
        kind = "over-confident" if row["value"] < 1 else "under-confident"
        yield f"{variable.name.upper()} is {kind}: its spread is {number(row)} times its error ({interval(row)})."


def _excludes(row: Row, right: float) -> bool:
    low, high = row["low"], row["high"]
    return low is not None and high is not None and not low <= right <= high


def _matters(value: Any) -> bool:
    return value is not None and not 1 / MATTERS < value < MATTERS


def _how_often(ratio: float) -> str:
    if ratio >= 10:
        return f"{ratio:.0f} times too often"
    if ratio >= 2:
        return f"{ratio:.1f} times too often"
    return f"{100 * (ratio - 1):.0f} % too often" if ratio > 1 else f"{100 * (1 - ratio):.0f} % too rarely"
