"""What a cycle does next, given what the workspace holds: a pure function, asked again after every stage.

The newest forecast comes first, with as little fetching as it takes; then what is due is scored; then what an outage
left behind is made up for, newest first; then that is scored too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convcast.dataset import Status
from convcast.notation import HOUR, Hour
from convcast.operations.inventory import Inventory

Stage = Literal["fetch", "preprocess", "sample", "verify", "publish", "prune"]


@dataclass(frozen=True)
class Step:
    """One stage with what it is about."""

    stage: Stage
    hours: tuple[Hour, ...] = ()
    """To fetch: first and last; to sample: the initial time."""
    cases: frozenset[tuple[Hour, int]] = frozenset()
    """To verify: initial times and leads that are due."""

    @property
    def words(self) -> list[str]:
        """Of the command line."""
        match self.stage:
            case "fetch":
                # Which of the hours are there is read from the answer; a gap from last week is no failure every hour.
                return ["fetch", "--start", str(self.hours[0]), "--end", str(self.hours[-1]), "--max-missing", "1"]
            case "sample":
                return ["sample", "--init", str(self.hours[0])]
            case _:
                return [self.stage]


@dataclass(frozen=True)
class CycleLimits:
    """What a cycle keeps to."""

    catch_up: int
    """Hours back from the newest analysis."""
    every: int = 1
    """Hours between initial times."""
    history: int = 4
    """Hours, the initial one included, that are fetched while no model says how many it needs."""


def next_step(
    inventory: Inventory, limits: CycleLimits, done: Sequence[Step], excluded: frozenset[Stage] = frozenset()
) -> Step | None:
    """The step after those that were done, whatever came of them; None at the end.

    Stages that are `excluded` would fail again.
    """
    at = {step.stage: number for number, step in enumerate(done)}
    fetched = [step.hours for step in done if step.stage == "fetch"]
    history = inventory.model.history if inventory.model else limits.history
    head = [hour for hour in _back(inventory.expected, history) if inventory.needs_fetch(hour)]
    if head and not fetched and "fetch" not in excluded:
        return Step("fetch", (head[-1], head[0]))
    if inventory.unprocessed and at.get("preprocess", -1) < at.get("fetch", 0) and "preprocess" not in excluded:
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
    older = [hour for hour in _back(inventory.expected, limits.catch_up + history) if inventory.needs_fetch(hour)]
    if older and not any(first <= older[-1] for first, _ in fetched) and "fetch" not in excluded:
        return Step("fetch", (older[-1], older[0]))
    if wanted:
        return Step("sample", (wanted[0],))
    if due - tried:
        return Step("verify", cases=due)
    if at.get("publish", -1) < max(at.get("sample", -1), at.get("verify", -1), 0):
        return Step("publish")
    return None if "prune" in at else Step("prune")


def _back(hour: Hour, count: int) -> list[Hour]:
    """So many hours back from this one, which comes first."""
    return list(hour - np.arange(count) * HOUR)


def possible_inits(inventory: Inventory, limits: CycleLimits) -> list[Hour]:
    """Initial times, newest first, that can be forecast and that the model has not learned from."""
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
    """Forecasts whose valid time has come and whose analysis is there, and that have not been scored.

    As far back as a cycle catches up; whatever lies on the disk is scored along with them.
    """
    first = inventory.expected - limits.catch_up * HOUR
    return frozenset(
        (init, lead)
        for init, forecast in inventory.forecasts.items()
        if forecast.verifiable and not (forecast.trained and forecast.trained[0] <= init <= forecast.trained[1])
        for lead in forecast.leads
        if (init, lead) not in inventory.scored and init + lead * HOUR >= first and inventory.ok(init + lead * HOUR)
    )


def unfinished(inventory: Inventory, limits: CycleLimits) -> frozenset[Hour]:
    """Initial times whose members are still needed: incomplete ones that a cycle may complete, and those to be scored.

    Scores are due, or will be, when the analysis comes; after `catch_up` hours it does not.
    """
    first = inventory.expected - limits.catch_up * HOUR
    gone = (Status.REJECTED, Status.PRUNED)
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
    """Of the newest `within` hours that should be published, those that are not here."""
    return tuple(hour for hour in reversed(_back(inventory.expected, within)) if inventory.needs_fetch(hour))


def gaps(inventory: Inventory, limits: CycleLimits, *, within: int) -> tuple[Hour, ...]:
    """Hours as far back as a cycle catches up that were rejected, or are not here and not among those merely late."""
    recent = _back(inventory.expected, limits.catch_up + limits.history)
    late = set(late_hours(inventory, within=within))
    return tuple(
        hour
        for hour in reversed(recent)
        if inventory.hour_status.get(hour) == Status.REJECTED or (inventory.needs_fetch(hour) and hour not in late)
    )
