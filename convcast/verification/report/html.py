"""Verification report as one self-contained HTML file."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convcast import __version__
from convcast.metrics import MODEL
from convcast.metrics.scores import FIELD_SCORES
from convcast.metrics.scores.changes import ChangeCrps
from convcast.text import page_templates
from convcast.verification.results.calibration import CALIBRATED, UNKNOWN, diagnose
from convcast.verification.results.formats import interval, number, system_name
from convcast.verification.results.published_scores import comparison_label, find_product_rows
from convcast.verification.results.table import Row, verdict
from convcast.verification.results.verification import Verification
from convcast.verification.results.warnings import warnings_of

if TYPE_CHECKING:
    from convcast.verification.report.figures import ReportFigure


HRRR_BASED = ("hrrr", "time-lagged", "refs", "href", "hrrrcast")
"""Baselines made of HRRR forecasts, at least in part."""


STORM_COLUMNS = (
    "storms_matched",
    "storms_matched_within_1h",
    "storms_confirmed",
    "storm_count",
    "storm_count_observed",
    "storm_count_crps",
)
"""Scores in the report's table of storms."""


@dataclass(frozen=True)
class ProductTableRow:
    """Row of the table of published products."""

    what: str
    """Product that is compared."""
    ours: tuple[str, str]
    """Our score and its interval."""
    theirs: tuple[str, str]
    """Score of the publisher and its interval."""
    difference: str
    """Interval of the paired difference."""
    verdict: str


@dataclass(frozen=True)
class FieldTableRow:
    """Row of a field in the table of scores."""

    field: str
    long_name: str
    units: str
    cells: list[tuple[str, str]]
    """Fair CRPS and its interval by system."""
    ratio: str
    ratio_interval: str
    spread_error: str
    calibration: str
    verdict: str


def render_report(verification: Verification, figures: Sequence[ReportFigure]) -> str:
    """Return the report as HTML, with the figures embedded."""
    environment = page_templates("convcast.verification.report")
    environment.filters["named"] = system_name
    facts = verification.facts
    inits = np.array(facts.inits, "datetime64[h]")
    return environment.get_template("report.html.jinja").render(
        facts=facts,
        version=__version__,
        first=inits[0],
        last=inits[-1],
        level=f"{facts.confidence:.0%}",
        headline=headline(verification),
        warnings=warnings(verification),
        caveats=caveats(verification),
        tables=[
            (lead, [_field_row(verification, v.name, lead) for v in verification.variables]) for lead in facts.leads
        ],
        events=[(lead, _events(verification, lead)) for lead in facts.leads],
        storms=[(lead, rows) for lead in facts.leads if (rows := _storms(verification, lead))],
        changes=_changes(verification),
        products=[
            (lead, system, lines)
            for lead in facts.leads
            for system in facts.products
            if (lines := product_table_rows(verification, system, lead))
        ],
        beside=[
            (
                other.facts,
                [*warnings(other), *headline(other)],
                [
                    (lead, [_field_row(other, variable.name, lead) for variable in other.scored(lead)])
                    for lead in other.facts.leads
                ],
                [f"{note}." for note in other.facts.notes],
            )
            for _, other in verification.beside
        ],
        figures=[(figure, base64.b64encode(figure.png).decode()) for figure in figures],
        agreement=str(verification.agreement),
        model=MODEL,
    )


def warnings(verification: Verification) -> list[str]:
    """Return sentences on the faults of the forecasts at the first and the last lead."""
    facts = verification.facts
    few = f" By intervals from only {facts.days} days." if facts.few_days else ""
    return [
        f"{facts.when(lead).capitalize()}: {sentence}{few}"
        for lead in dict.fromkeys((facts.leads[0], facts.leads[-1]))
        for variable in verification.scored(lead)
        for sentence in warnings_of(verification.scores, variable, lead)
    ]


def headline(verification: Verification) -> list[str]:
    """Return the main results as sentences; a system is better or worse only by an interval that excludes zero."""
    facts, lead = verification.facts, verification.facts.leads[0]
    few = f" (by intervals from only {facts.days} days)" if facts.days > 1 and facts.few_days else ""
    names = [variable.name for variable in verification.scored(lead)]
    simple = [name for name in ("advection", "persistence") if name in facts.systems][:1]
    sentences = [
        f"At {at} h, by CRPS on the same cases, {MODEL} is {_verdicts(verification, at, other)}{few}."
        for at in dict.fromkeys((facts.leads[0], facts.leads[-1]))
        for other in [*simple, *(name for name in HRRR_BASED if name in facts.systems)]
    ]
    for system in facts.products:
        verdicts = Counter(line.verdict for line in product_table_rows(verification, system, lead) if line.verdict)
        words = {"no clear difference": "not clearly different", "no interval": "without an interval"}
        counts = ", ".join(f"{words.get(outcome, outcome)} in {count}" for outcome, count in verdicts.items())
        sentences.append(
            f"Beside the products of {system_name(system)} at {lead} h, {MODEL} is {counts} of {verdicts.total()} "
            f"comparisons{few}."
        )
    ratios = {n: r["value"] for n in names if (r := _ratio(verification, n, lead)) and r["value"] is not None}
    if ratios:
        worst = max(ratios, key=lambda name: ratios[name])
        mean = sum(ratios.values()) / len(ratios)
        sentences.append(
            f"Its CRPS is {mean:.2f} times that of the exact ensemble in the mean of the fields, and "
            f"{ratios[worst]:.2f} times on the worst, {worst.upper()}; 1 is the limit for any model."
        )
    spreads = {
        n: r["value"]
        for n in names
        if (r := verification.find(n, "spread_error_ratio", MODEL, lead_hours=lead)) and r["value"] is not None
    }
    if spreads:
        low, high = min(spreads, key=lambda n: spreads[n]), max(spreads, key=lambda n: spreads[n])
        sentences.append(
            f"Spread over error is between {spreads[low]:.2f} ({low.upper()}) and {spreads[high]:.2f} "
            f"({high.upper()}); 1 is reliable, less is over-confident."
        )
    if facts.members > 1:
        sentences.append(_calibration(verification, lead))
    return sentences


def _diagnosis(verification: Verification, field: str, lead: int) -> str:
    return diagnose(lambda score: verification.find(field, score, MODEL, lead_hours=lead))


def _calibration(verification: Verification, lead: int) -> str:
    """Return a sentence on calibration by field; fields without an interval are named as such."""
    names = [variable.name for variable in verification.scored(lead)]
    fields_by_diagnosis: dict[str, list[str]] = {}
    for name in names:
        fields_by_diagnosis.setdefault(_diagnosis(verification, name, lead), []).append(name.upper())
    parts = []
    for words, fields in fields_by_diagnosis.items():
        words = "calibrated as far as these days can tell" if words == CALIBRATED else words
        parts.append(f"without an interval on {_join(fields)}" if words == UNKNOWN else f"{words} on {_join(fields)}")
    return f"Calibration at {lead} h: {'; '.join(parts)}."


def _verdicts(verification: Verification, lead: int, other: str) -> str:
    """Return a phrase like `better than advection on T2M; not clearly different from advection on REFC`."""
    names = [variable.name for variable in verification.scored(lead)]
    name = system_name(other)
    verdicts = {n: verification.verdict(n, lead, other) for n in names}
    return "; ".join(
        f"{phrase} on {_join([n.upper() for n in names if verdicts[n] == word])}"
        for word, phrase in (
            ("better", f"better than {name}"),
            ("worse", f"worse than {name}"),
            ("no clear difference", f"not clearly different from {name}"),
            ("no interval", f"without an interval against {name}"),
        )
        if word in verdicts.values()
    )


def caveats(verification: Verification) -> list[str]:
    """Return the limitations of the verification as sentences."""
    facts = verification.facts
    notes = []
    if facts.simulated:
        notes.append("The weather is simulated: scores show how well the method works, not how the atmosphere behaves.")
    elif "HRRR" in facts.truth:
        notes.append(
            f"Truth is {facts.truth}, the same system that the model learnt from; no independent observation is used."
        )
    else:
        notes.append(f"Truth is {facts.truth}.")
    if not facts.simulated and set(HRRR_BASED) & {*facts.systems, *facts.products} and "HRRR" in facts.truth:
        notes.append(
            "HRRR analyses are not independent of HRRR's own forecasts, nor of ensembles that have them as members: "
            "their scores against observations would be worse."
        )
    if facts.days == 1:
        notes.append("All forecasts start on one day, so that there is no interval and little can be concluded.")
    elif facts.few_days:
        notes.append(
            f"Few days: intervals from resampling {facts.days} days are too narrow. Take them as a lower bound of the "
            f"uncertainty; 20 days or more are needed."
        )
    notes += [f"{note}." for note in facts.notes]
    notes += _not_computed(verification)
    notes += [f"Not compared: {one}." for one in facts.not_compared]
    for reason, count in facts.left_out.items():
        notes.append(f"{count} forecast{'s' * (count != 1)} left out: {reason}.")
    if "advection" in facts.systems:
        notes.append(
            "The advection baseline uses no network: it moves the last analysis by the motion of the history and adds "
            "residuals resampled from the training hours near the same time of day."
        )
    return notes


def _not_computed(verification: Verification) -> list[str]:
    """Return sentences on scores that are undefined in all or some forecasts because of missing points."""
    fields: dict[tuple[str, str], list[str]] = {}
    for row in verification.scores:
        if row["system"] == MODEL and row.get("note", "no events") != "no events":
            title = next((score.title for score in FIELD_SCORES if row["score"].startswith(score.name)), row["score"])
            fields.setdefault((title, row["note"]), []).append(row["field"].upper())
    return [f"{score} of {_join(list(dict.fromkeys(names)))}: {note}." for (score, note), names in fields.items()]


def _field_row(verification: Verification, field: str, lead: int) -> FieldTableRow:
    variable = next(v for v in verification.variables if v.name == field)
    cells = []
    for system in verification.facts.systems:
        row = verification.find(field, "crps", system, estimator="fair", lead_hours=lead)
        cells.append((number(row), interval(row)))
    against_advection = verification.verdict(field, lead) if "advection" in verification.facts.systems else ""
    spread = verification.find(field, "spread_error_ratio", MODEL, lead_hours=lead)
    return FieldTableRow(
        field=field.upper(),
        long_name=variable.long_name,
        units=variable.sign,
        cells=cells,
        ratio=number(_ratio(verification, field, lead), 2),
        ratio_interval=interval(_ratio(verification, field, lead), 2),
        spread_error=number(spread, 2),
        calibration=_diagnosis(verification, field, lead),
        verdict=against_advection,
    )


def product_table_rows(verification: Verification, system: str, lead: int) -> list[ProductTableRow]:
    """Return the rows of the table of a system's products at a lead, hours.

    Args:
        verification: The verification.
        system: Name of the reference ensemble.
        lead: Lead time, hours.
    """
    lines = []
    for ours, theirs, difference in find_product_rows(verification, system, lead):
        silent = ours.get("note") == "no events"
        lines.append(
            ProductTableRow(
                what=comparison_label(ours),
                ours=("no events", "") if silent else (number(ours), interval(ours)),
                theirs=("no events", "") if silent else (number(theirs), interval(theirs)),
                difference=interval(difference),
                verdict="" if silent else verdict(difference),
            )
        )
    return lines


def _storms(verification: Verification, lead: int) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the scores of storms as objects by system: value and interval of each of STORM_COLUMNS."""
    lines = []
    for system in verification.facts.systems:
        rows = [verification.find("refc", score, system, lead_hours=lead) for score in STORM_COLUMNS]
        if any(row is not None for row in rows):
            lines.append((system, [(number(row, 2), interval(row, 2)) for row in rows]))
    return lines


def _changes(verification: Verification) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the CRPS of changes between leads: field and unit, the two leads, and value and interval by system."""
    found = [row for row in verification.scores if row["score"] == ChangeCrps.name and row["system"] == MODEL]
    lines = []
    for row in found:
        leads = {"from_hours": row["from_hours"], "to_hours": row["to_hours"]}
        its = [
            verification.find(row["field"], ChangeCrps.name, system, **leads) for system in verification.facts.systems
        ]
        variable = next(v for v in verification.variables if v.name == row["field"])
        field = f"{variable.name.upper()} ({variable.sign})"
        lines.append((field, "{from_hours} to {to_hours} h".format(**leads), [(number(r), interval(r)) for r in its]))
    return lines


def _events(verification: Verification, lead: int) -> list[tuple[str, int, str, str]]:
    """Return, for each event, its name, number of points, fair Brier score and interval."""
    lines = []
    for variable in verification.variables:
        for threshold in variable.thresholds:
            row = verification.find(variable.name, "brier", MODEL, threshold=threshold, lead_hours=lead)
            if row is not None:
                score = "no events" if row.get("note") == "no events" else number(row)
                lines.append((variable.event(threshold), row["events"], score, interval(row)))
    return lines


def _ratio(verification: Verification, field: str, lead: int) -> Row | None:
    return verification.find(field, "crps_ratio_exact", MODEL, lead_hours=lead)


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
