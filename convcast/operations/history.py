"""The score history: the scores of every verified case, one JSON line per case and one file per month.

Forecasts are pruned after some days; these lines of 1.5 kB are never deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter

from convcast.errors import ConvcastError
from convcast.files import append_line, parse_json
from convcast.metrics import MODEL
from convcast.metrics.formulas import spread_error_ratio
from convcast.notation import HOUR, Hour, parse_hour
from convcast.variables import FIELDS

if TYPE_CHECKING:
    import xarray as xr

SCORES = ("crps", "rmse", "spread", "error")
"""Variables of scores.zarr that are stored: fair CRPS, RMSE and bias of the ensemble mean, and spread."""
DIGITS = 5
"""Significant digits of a stored score."""
LONGEST_LEAD = 48
"""Longest lead time of a forecast, hours."""

Systems = dict[str, dict[str, float]]
"""Scores of one field and case, by system."""
_SCORES = TypeAdapter(dict[str, Systems])


@dataclass(frozen=True)
class ScoredCase:
    """One line of the history."""

    init: Hour
    lead: int
    """Hours."""
    members: int
    scores: dict[str, Systems]
    """Scores of each system, by the field's name."""

    def of_model(self) -> Iterator[tuple[str, Systems]]:
        """Yield the fields for which there is a CRPS of the model, with their scores."""
        return ((name, systems) for name, systems in self.scores.items() if "crps" in systems.get(MODEL, {}))


@dataclass(frozen=True)
class Skill:
    """A field's mean scores over some days."""

    field: str
    cases: int
    crps: float
    """Fair, in the field's units."""
    spread_error_ratio: float
    skill: Mapping[str, float]
    """1 - CRPS / CRPS of a baseline, over the same cases, by baseline."""


@dataclass(frozen=True)
class LeadScores:
    """Mean scores of a field at a lead over some cases."""

    lead: int
    """Hours."""
    field: str
    cases: int
    first: Hour
    """Valid time of the earliest case."""
    last: Hour
    crps: float
    """Fair, in the field's units."""
    spread_error_ratio: float
    persistence: tuple[float, float] | None
    """CRPS of persistence and the skill against it, 1 - CRPS / its CRPS, over the cases that have it."""


class ScoreHistory:
    """The score history in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cases(self, since: Hour | None = None) -> Iterator[ScoredCase]:
        """Yield the cases of initial times from `since` on; damaged lines are skipped."""
        month = "" if since is None else str(since.astype("datetime64[M]"))
        for path in sorted(self.folder.glob("????-??.jsonl")):
            if path.stem < month:
                continue
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                case = _read(line)
                if case is not None and (since is None or case.init >= since):
                    yield case

    def scored(self, since: Hour | None = None) -> frozenset[tuple[Hour, int]]:
        """Return the initial times and leads (hours) of the cases from `since` on."""
        return frozenset((case.init, case.lead) for case in self.cases(since))

    def add(self, scores: xr.Dataset) -> int:
        """Add the new cases of a verification's scores.zarr, and return their number.

        A case that was scored again (other settings, another program) keeps its first line.
        """
        inits = scores["init_time"].values.astype("datetime64[h]")
        known = self.scored(inits.min()) if inits.size else frozenset()
        added = 0
        for i, init in enumerate(inits):
            for j, step in enumerate(scores["lead_time"].values):
                lead = int(step / np.timedelta64(1, "h"))
                values = _values(scores.isel(init_time=i, lead_time=j))
                if (init, lead) in known or not values:
                    continue
                path = self.folder / f"{init.astype('datetime64[M]')}.jsonl"
                members = int(scores.attrs["members"])
                append_line(path, {"init": str(init), "lead": lead, "members": members, "scores": values})
                added += 1
        return added

    def recent(self, newest: Hour, days: float) -> list[Skill]:
        """Return the mean scores, by field, of the cases that start within so many days before `newest`."""
        by_field: dict[str, list[Systems]] = {}
        members = 2
        for case in self.cases(newest - round(24 * days) * HOUR):
            members = case.members
            for name, systems in case.of_model():
                by_field.setdefault(name, []).append(systems)
        return [_mean(name, cases, members) for name, cases in by_field.items()]

    def valid_within(self, hours: int, until: Hour) -> list[LeadScores]:
        """Return the mean scores, by lead and field, of the cases that are valid within so many hours up to `until`."""
        groups: dict[tuple[int, int], list[ScoredCase]] = {}
        order = list(FIELDS)
        for case in self.cases(until - (hours + LONGEST_LEAD) * HOUR):
            if until - hours * HOUR < case.init + case.lead * HOUR <= until:
                for name, _ in case.of_model():
                    if name in FIELDS:
                        groups.setdefault((case.lead, order.index(name)), []).append(case)
        return [_of_lead(lead, order[number], cases) for (lead, number), cases in sorted(groups.items())]


def _read(line: str) -> ScoredCase | None:
    """Return the case in a line; None for a line that is damaged, for example by a power cut."""
    try:
        case = parse_json(line)
        scores = _SCORES.validate_python(case["scores"])
        return ScoredCase(parse_hour(case["init"]), int(case["lead"]), int(case.get("members", 2)), scores)
    except (ValueError, KeyError, TypeError, AttributeError, ConvcastError):
        return None


def _values(case: xr.Dataset) -> dict[str, Systems]:
    """Return the scores of one case by field, then system; empty if it was not scored."""
    by_field: dict[str, Systems] = {}
    for name in case["field"].values:
        for system in case["system"].values:
            one = case.sel(field=name, system=system)
            if float(one["points"]) > 0:
                numbers = {score: float(f"{float(one[score]):.{DIGITS}g}") for score in SCORES}
                finite = {score: number for score, number in numbers.items() if np.isfinite(number)}
                by_field.setdefault(str(name), {})[str(system)] = finite
    return by_field if any(MODEL in systems for systems in by_field.values()) else {}


def _mean(name: str, cases: list[Systems], members: int) -> Skill:
    ours = [case[MODEL] for case in cases]
    variance, error = (np.mean([one.get(score, np.nan) ** 2 for one in ours]) for score in ("spread", "rmse"))
    skill = {}
    for system in sorted({system for case in cases for system in case} - {MODEL}):
        both = [(case[MODEL]["crps"], case[system]["crps"]) for case in cases if "crps" in case.get(system, {})]
        mine, other = np.mean(both, axis=0) if both else (np.nan, np.nan)
        if other > 0:
            skill[system] = float(1 - mine / other)
    ratio = float(spread_error_ratio(np.asarray(variance), np.asarray(error), members))
    return Skill(name, len(cases), float(np.mean([one["crps"] for one in ours])), ratio, skill)


def _of_lead(lead: int, name: str, cases: list[ScoredCase]) -> LeadScores:
    valid = [case.init + lead * HOUR for case in cases]
    scores = [case.scores[name] for case in cases]
    mean = _mean(name, scores, cases[-1].members)
    theirs = [systems["persistence"]["crps"] for systems in scores if "crps" in systems.get("persistence", {})]
    persistence = (float(np.mean(theirs)), mean.skill["persistence"]) if "persistence" in mean.skill else None
    return LeadScores(lead, name, len(cases), min(valid), max(valid), mean.crps, mean.spread_error_ratio, persistence)
