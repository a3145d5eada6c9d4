"""A certificate: where a model is reliable and where not, over which days, by whose truth, and beside which systems.

Each statement has its value, interval and number of forecasts. It is `reliable` where the value is within the tolerance
and its interval within twice the tolerance, `not reliable` where the value is beyond the tolerance and the interval
excludes the right value, and `not known` otherwise, or where days are too few to tell.

Probabilities of an event have two statements, since neither implies the other: their reliability, and their skill over
the event's mean frequency.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from convcast import __version__
from convcast.metrics import MODEL
from convcast.metrics.bootstrap import FEW_DAYS
from convcast.variables import FIELDS
from convcast.verification.results.table import Row, verdict
from convcast.verification.results.verification import Verification

SCHEMA = 1
RELIABLE, NOT_RELIABLE, NOT_KNOWN = "reliable", "not reliable", "not known"
TOLERANCES = {
    "spread_error_ratio": (0.95, 1.05),
    "frequency_bias": (0.8, 1.25),
    "outliers": (0.8, 1.25),
}
"""Ratios that are as good as 1, by score. An interval may reach twice as far, on a logarithmic scale: to the squares of
these bounds. A wider interval may hide a fault."""
ABOUT = {
    "spread_error_ratio": "spread / error",
    "frequency_bias": "how often the event is forecast, over how often it happens",
    "brier_skill": "skill of the event's probabilities over its mean frequency",
    "brier_reliability": "unreliable part of the event's probabilities, over its uncertainty",
    "outliers": "truth beyond all members, over how often that should be",
}
NOUNS = {
    "spread_error_ratio": "spread",
    "frequency_bias": "frequency",
    "brier_skill": "skill of probabilities",
    "brier_reliability": "reliability of probabilities",
    "outliers": "tails",
}
"""Words of the summary, by score."""
UNRELIABLE_SHARE = 0.02
"""Maximum reliability part of the Brier score of reliable probabilities, as a share of the event's uncertainty and in
addition to 1/M, which M members lose because they are few."""


def certify(verification: Verification, commands: Sequence[str]) -> dict[str, Any]:
    """Make the certificate of a verification, as certificate.json has it.

    Args:
        verification: Scores with intervals; each further truth has statements of its own.
        commands: Command lines that made the forecasts and the scores.
    """
    facts = verification.facts
    return {
        "schema": SCHEMA,
        "convcast_version": __version__,
        "simulated": facts.simulated,
        "models": list(facts.models),
        "commands": list(commands),
        "judged": [_judged(name, one) for name, one in (("", verification), *verification.beside)],
    }


def _judged(name: str, verification: Verification) -> dict[str, Any]:
    facts = verification.facts
    days = sorted({init[:10] for init in facts.inits})
    few = facts.few_days
    scores = _with_shares(verification.scores)
    statements = [one for row in scores if (one := _statement(row, few=few, members=facts.members)) is not None]
    return {
        "truth": facts.truth,
        "name": name or "analyses",
        "first": facts.inits[0],
        "last": facts.inits[-1],
        "days": days,
        "forecasts": facts.cases,
        "members": facts.members,
        "leads": list(facts.leads),
        "confidence": facts.confidence,
        "few_days": few,
        "summary": list(_summary(statements, few=few, days=facts.days)),
        "statements": statements,
        "beside": [_comparison(row) for row in verification.scores if row["score"].endswith("_difference")],
        "left_out": facts.left_out,
    }


def _with_shares(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the rows, the reliability part of the Brier score as a share of the event's uncertainty."""
    uncertainty = {_event(row): row["value"] for row in rows if row["score"] == "brier_uncertainty"}
    for row in rows:
        if row["score"] != "brier_reliability":
            yield row
        elif whole := uncertainty.get(_event(row)):
            parts = {name: row[name] / whole for name in ("value", "low", "high") if row[name] is not None}
            yield row | parts


def _event(row: Row) -> tuple[Any, ...]:
    return row["system"], row["field"], row["lead_hours"], row["threshold"]


def _statement(row: Row, *, few: bool, members: int) -> dict[str, Any] | None:
    """Judge one property of the model at a lead; None for rows of other systems and scores, or without a value."""
    score = row["score"]
    if row["system"] != MODEL or score not in ABOUT or row.get("note") or row["value"] is None:
        return None
    names = ("field", "lead_hours", "threshold", "regime", "value", "low", "high", "n", "days")
    parts = {name: row[name] for name in names if name in row}
    return parts | {"score": score, "about": ABOUT[score], "verdict": _judge(row, few=few, members=members)}


def _judge(row: Row, *, few: bool, members: int) -> str:
    value, low, high = row["value"], row["low"], row["high"]
    if value is None or low is None or high is None:
        return NOT_KNOWN
    if row["score"] == "brier_skill":
        if high < 0:
            return NOT_RELIABLE
        return NOT_KNOWN if few or low < 0 else RELIABLE
    if row["score"] == "brier_reliability":
        allowed = UNRELIABLE_SHARE + 1 / members
        if low > allowed:
            return NOT_RELIABLE
        return NOT_KNOWN if few or value > allowed or high > 2 * allowed else RELIABLE
    lowest, highest = TOLERANCES[row["score"]]
    if not lowest <= value <= highest:
        return NOT_KNOWN if low <= 1 <= high else NOT_RELIABLE
    least, most = widest_interval(row["score"])
    return NOT_KNOWN if few or low < least or high > most else RELIABLE


def widest_interval(score: str) -> tuple[float, float]:
    """Return the bounds within which the interval of a reliable ratio lies."""
    lowest, highest = TOLERANCES[score]
    return lowest**2, highest**2


def _comparison(row: Row) -> dict[str, Any]:
    """Return a paired difference from another system, of its members or of its published products."""
    labels = ("field", "lead_hours", "reference", "estimator", "threshold", "from_hours", "to_hours")
    names = (*labels, "value", "low", "high", "n", "days", "units")
    parts = {name: row[name] for name in names if name in row}
    return parts | {"score": row["score"].removesuffix("_difference"), "convcast_is": verdict(row)}


def _summary(statements: Sequence[dict[str, Any]], *, few: bool, days: int) -> Iterator[str]:
    """Yield sentences: what is reliable, what is not, and what these days cannot tell."""
    if few:
        yield (
            f"Only {days} day{'s' * (days != 1)}: intervals are too narrow, and {FEW_DAYS} days or more are needed to "
            "call anything reliable."
        )
    for word in (NOT_RELIABLE, RELIABLE, NOT_KNOWN):
        groups: dict[tuple[str, int], list[str]] = {}
        for one in statements:
            if one["verdict"] == word and "regime" not in one:
                groups.setdefault((NOUNS[one["score"]], one["lead_hours"]), []).append(_what(one))
        if groups:
            parts = (f"{noun} of {', '.join(what)} at {lead} h" for (noun, lead), what in groups.items())
            yield f"{word.capitalize()}: {'; '.join(parts)}."
    regimes = [one for one in statements if one["verdict"] == NOT_RELIABLE and "regime" in one]
    if regimes:
        names = dict.fromkeys(
            f"{one['field'].upper()} where it is {one['regime']}, at {one['lead_hours']} h" for one in regimes
        )
        yield f"By regime, spread is not reliable on {'; '.join(names)}."


def _what(one: dict[str, Any]) -> str:
    variable = FIELDS[one["field"]]
    return variable.event(one["threshold"]) if "threshold" in one else variable.name.upper()
