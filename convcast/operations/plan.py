"""Choose the next step of a cycle from the inventory, by a pure function that is called after every stage.

The newest forecast comes first, with only the hours it needs; then due cases are verified; then hours and forecasts
missed in an outage are caught up on, newest first, and verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convcast.archive.reference_ensembles import SYSTEMS, cycle_of
from convcast.dataset import HourStatus
from convcast.notation import HOUR, Hour
from convcast.operations.inventory import Inventory

Stage = Literal["fetch", "preprocess", "sample", "verify", "calibrate", "publish", "prune"]


@dataclass(frozen=True)
class Step:
    """A stage with its hours or cases."""

    stage: Stage
    hours: tuple[Hour, ...] = ()
    """First and last hour to fetch, the initial time to sample, or the last hour to learn a calibration from."""
    cases: frozenset[tuple[Hour, int]] = frozenset()
    """Initial times and leads (hours) to verify."""

    @property
    def words(self) -> list[str]:
        """Words of the command line, after `convcast`."""
        match self.stage:
            case "fetch":
                # The cycle itself judges the outcome of each hour, so that a gap of last week does not fail every
                # cycle.
                return ["fetch", "--start", str(self.hours[0]), "--end", str(self.hours[-1]), "--max-missing", "1"]
            case "calibrate":
                return ["calibrate", "--until", str(self.hours[0])]
            case "sample":
                return ["sample", "--init", str(self.hours[0])]
            case _:
                return [self.stage]


@dataclass(frozen=True)
class CycleLimits:
    """Limits of a cycle, from the settings."""

    catch_up: int
    """Hours before the newest analysis that are caught up on."""
    every: int = 1
    """Hours between initial times."""
    calibrate: bool = False
    """Whether a calibration is learnt each day."""
    history: int = 4
    """Number of hours to fetch, the initial one included, while there is no model whose history determines it."""


def next_step(
    inventory: Inventory, limits: CycleLimits, done: Sequence[Step], excluded: frozenset[Stage] = frozenset()
) -> Step | None:
    """Return the next step, or None at the end of the cycle.

    Args:
        inventory: The workspace as it is now.
        limits: Limits of the cycle.
        done: Steps done in this cycle, whether they succeeded or not.
        excluded: Stages that would fail again in this cycle.
    """
    at = {step.stage: number for number, step in enumerate(done)}
    fetched = [step.hours for step in done if step.stage == "fetch"]
    history = inventory.model.history if inventory.model else limits.history
    head = [hour for hour in _back(inventory.expected, history) if inventory.wants_fetch(hour)]
    if head and not fetched and "fetch" not in excluded:
        return Step("fetch", (head[-1], head[0]))
    unprocessed = inventory.unprocessed or inventory.unprocessed_forecasts
    if unprocessed and at.get("preprocess", -1) < at.get("fetch", 0) and "preprocess" not in excluded:
        return Step("preprocess")

    sampled = {step.hours[0] for step in done if step.stage == "sample"}
    wanted = [
        init for init in possible_inits(inventory, limits) if init not in sampled and not inventory.complete(init)
    ]
    if "sample" in excluded:
        wanted = []
    if wanted and not sampled:
        return Step("sample", (wanted[0],))
    if sampled and "publish" not in at:
        return Step("publish")

    due = frozenset[tuple[Hour, int]]() if "verify" in excluded else due_cases(inventory, limits)
    tried = frozenset[tuple[Hour, int]]().union(*(step.cases for step in done if step.stage == "verify"))
    if due - tried and not tried and len(sampled) <= 1:
        return Step("verify", cases=due)
    older = [hour for hour in _back(inventory.expected, limits.catch_up + history) if inventory.wants_fetch(hour)]
    if older and not any(first <= older[-1] for first, _ in fetched) and "fetch" not in excluded:
        return Step("fetch", (older[-1], older[0]))
    if wanted:
        return Step("sample", (wanted[0],))
    if due - tried:
        return Step("verify", cases=due)
    if limits.calibrate and inventory.to_calibrate and not {"calibrate"} & {*at, *excluded}:
        return Step("calibrate", (inventory.expected,))
    if at.get("publish", -1) < max(at.get("sample", -1), at.get("verify", -1), 0):
        return Step("publish")
    return None if "prune" in at else Step("prune")


def _back(hour: Hour, count: int) -> list[Hour]:
    """Return `count` hours that end with `hour`, newest first."""
    return list(hour - np.arange(count) * HOUR)


def possible_inits(inventory: Inventory, limits: CycleLimits) -> list[Hour]:
    """Return the initial times, newest first, that can be forecast and that the model was not trained on."""
    model = inventory.model
    if model is None:
        return []
    return [
        init
        for init in _back(inventory.expected, limits.catch_up + 1)
        if init not in inventory.blocked
        and init.astype(np.int64) % limits.every == 0
        and all(inventory.ok(init - back * HOUR) for back in range(model.history))
        and not model.trained_on(init)
    ]


def due_cases(inventory: Inventory, limits: CycleLimits) -> frozenset[tuple[Hour, int]]:
    """Return the initial times and leads of forecasts that have an analysis of their valid time and no scores yet.

    Only valid times within the hours that a cycle catches up on count, up to the newest that should be published.
    """
    first, last = inventory.expected - limits.catch_up * HOUR, inventory.expected
    return frozenset(
        (init, lead)
        for init, forecast in inventory.forecasts.items()
        if forecast.verifiable and not (forecast.trained and forecast.trained[0] <= init <= forecast.trained[1])
        for lead in forecast.leads
        if (init, lead) not in inventory.scored
        and first <= init + lead * HOUR <= last
        and inventory.ok(init + lead * HOUR)
    )


def unfinished(inventory: Inventory, limits: CycleLimits) -> frozenset[Hour]:
    """Return the initial times whose members are still needed, to be completed or to be scored.

    A case may still be scored for `catch_up` hours after its valid time.
    """
    first = inventory.expected - limits.catch_up * HOUR
    gone = (HourStatus.REJECTED, HourStatus.PRUNED)
    return frozenset(
        init
        for init, forecast in inventory.forecasts.items()
        if (not forecast.complete and init >= first)
        or any(
            (init, lead) not in inventory.scored
            and init + lead * HOUR >= first
            and inventory.hour_status.get(init + lead * HOUR) not in gone
            for lead in forecast.leads
        )
    )


def late_hours(inventory: Inventory, *, within: int) -> tuple[Hour, ...]:
    """Return those of the newest `within` published hours that are missing, oldest first."""
    return tuple(hour for hour in reversed(_back(inventory.expected, within)) if inventory.needs_fetch(hour))


def gaps(inventory: Inventory, limits: CycleLimits, *, within: int) -> tuple[Hour, ...]:
    """Return the hours, as far back as a cycle catches up, that were rejected or are missing and not just late.

    Args:
        inventory: The inventory.
        limits: Limits of the cycle.
        within: How many of the newest published hours count as late rather than missing.
    """
    recent = _back(inventory.expected, limits.catch_up + limits.history)
    late = set(late_hours(inventory, within=within))
    return tuple(
        hour
        for hour in reversed(recent)
        if inventory.hour_status.get(hour) == HourStatus.REJECTED or (inventory.needs_fetch(hour) and hour not in late)
    )


def reference_fetches(
    names: Sequence[str], cases: frozenset[tuple[Hour, int]], *, ages: Sequence[int], late: int
) -> dict[str, list[str]]:
    """Return the words that fetch what verification needs for cases, by the name that `fetch --what` has for it.

    Args:
        names: Names of baselines and truths; those that need no files are ignored.
        cases: Initial times and leads, hours.
        ages: Ages, hours, of the forecasts in the time-lagged ensemble.
        late: Lead time, hours, of the analyses: 1 if they are f01, so that cycles are an hour older.
    """
    if not cases:
        return {}
    older = [0] * ("hrrr" in names) + list(ages) * ("time-lagged" in names)
    leads = {
        "time-lagged": {lead + late + age for _, lead in cases for age in older},
        "hrrrcast": {lead + late for _, lead in cases},
    }
    of_cycle = {int((init + lead * HOUR - cycle_of(init - late * HOUR)) / HOUR) for init, lead in cases}
    leads |= {"refs": of_cycle, "href": of_cycle}
    valid = [init + lead * HOUR for init, lead in cases]
    hours = ["--start", str(min(valid)), "--end", str(max(valid)), "--max-missing", "1"]
    found = {
        what: ["fetch", "--what", what, "--leads", ",".join(map(str, sorted(leads[what]))), *hours]
        for what in SYSTEMS
        if leads[what] and (what in names or what == "time-lagged")
    }
    return found | ({"mrms": ["fetch", "--what", "mrms", *hours]} if "mrms" in names else {})
