"""A certificate: where a model is reliable and where not, over which days, by whose truth, and beside which systems.

Each statement has its value, interval and number of forecasts. It is `reliable` where the interval holds the right
value or the value is within the tolerance, `not reliable` where neither is so, and `not known` where there is no
interval, or it holds the right value but comes from too few days to show a fault.
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
"""Values that are as good as 1, by score."""
ABOUT = {
    "spread_error_ratio": "spread / error",
    "frequency_bias": "how often the event is forecast, over how often it happens",
    "brier_skill": "probabilities of the event, against its mean frequency",
    "outliers": "truth beyond all members, over how often that should be",
    "storm_count": "storms a forecast",
    "storms_matched": "observed storms matched by members",
}


def certify(verification: Verification, commands: Sequence[str]) -> dict[str, Any]:
    """Make the certificate of a verification, as certificate.json has it.

    Args:
        verification: Scores with intervals; those by other truths are certified each by its own.
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
    statements = [statement for row in verification.scores if (statement := _statement(row, few=few)) is not None]
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


def _statement(row: Row, *, few: bool) -> dict[str, Any] | None:
    """One property of the model at a lead, judged; None for rows of other systems and scores."""
    score = row["score"]
    if row["system"] != MODEL or score not in ("brier_skill", *TOLERANCES) or row.get("note"):
        return None
    kept = ("field", "lead_hours", "threshold", "regime", "value", "low", "high", "n", "days")
    said = {name: row[name] for name in kept if name in row}
    return said | {"score": score, "about": ABOUT[score], "verdict": _judge(row, few=few)}


def _judge(row: Row, *, few: bool) -> str:
    value, low, high = row["value"], row["low"], row["high"]
    if value is None or low is None or high is None:
        return NOT_KNOWN
    if row["score"] == "brier_skill":
        if high < 0:
            return NOT_RELIABLE
        return NOT_KNOWN if few or low < 0 else RELIABLE
    lowest, highest = TOLERANCES[row["score"]]
    if not low <= 1 <= high and not lowest <= value <= highest:
        return NOT_RELIABLE
    return NOT_KNOWN if few else RELIABLE


def _comparison(row: Row) -> dict[str, Any]:
    """A paired difference from another system, by its members or by what it publishes."""
    labels = ("field", "lead_hours", "reference", "estimator", "threshold", "from_hours", "to_hours")
    kept = (*labels, "value", "low", "high", "n", "days", "units")
    said = {name: row[name] for name in kept if name in row}
    return said | {"score": row["score"].removesuffix("_difference"), "convcast_is": verdict(row)}


def _summary(statements: Sequence[dict[str, Any]], *, few: bool, days: int) -> Iterator[str]:
    """Sentences: what is reliable, what is not, and what these days cannot tell."""
    if few:
        yield (
            f"Only {days} day{'s' * (days != 1)}: intervals are too narrow, and {FEW_DAYS} days or more are needed to "
            "call anything reliable."
        )
    for word in (NOT_RELIABLE, RELIABLE, NOT_KNOWN):
        those = [one for one in statements if one["verdict"] == word and "regime" not in one]
        if those:
            names = dict.fromkeys(f"{_short(one)} at {one['lead_hours']} h" for one in those)
            yield f"{word.capitalize()}: {', '.join(names)}."
    regimes = [one for one in statements if one["verdict"] == NOT_RELIABLE and "regime" in one]
    if regimes:
        names = dict.fromkeys(
            f"{one['field'].upper()} where it is {one['regime']}, at {one['lead_hours']} h" for one in regimes
        )
        yield f"By regime, spread is not reliable on {'; '.join(names)}."


def _short(one: dict[str, Any]) -> str:
    variable = FIELDS[one["field"]]
    if one["score"] == "frequency_bias":
        return f"frequency of {variable.event(one['threshold'])}"
    if one["score"] == "brier_skill":
        return f"probability of {variable.event(one['threshold'])}"
    return f"{'spread' if one['score'] == 'spread_error_ratio' else 'tails'} of {variable.name.upper()}"
