"""Calibration that a cycle learns, on the simulated world: raw and calibrated scores of later days.

The exact ensemble of each hour is spoilt in a known way, as a model might spoil it: too little spread, a bias of
temperature, and reflectivity that is too strong. Each day the maps are fitted to the forecasts of the last days whose
truth is known at the first initial time of the day, and applied to the forecasts of that day. In the drifted world the
faults are switched on in the middle. No network is needed.

`python benchmarks/calibration.py --days 20 --window 5`
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from convcast.archive.simulated.world import World
from convcast.forecasts.calibration import Calibration
from convcast.metrics.regimes import sort_points
from convcast.variables import FIELDS
from convcast.verification.learn_calibration import draw_points, fit_maps

NAMES = ("refc", "t2m", "u10")
SIZE, MEMBERS = 96, 20
START = np.datetime64("2024-05-11T00", "h")
EVERY = 3
"""Hours between initial times."""
POINTS = 512

Fields = dict[str, np.ndarray]


def too_sharp(members: Fields) -> Fields:
    """Members with too little spread, a warm bias, and echoes that are too strong."""
    spoilt = {name: values.mean(0) + 0.7 * (values - values.mean(0)) for name, values in members.items()}
    spoilt["t2m"] = spoilt["t2m"] + 0.8
    refc = members["refc"]
    mean = refc.mean(0)
    refc = np.where(refc > -10, np.maximum(mean + 0.8 * (refc - mean), -10), -10)
    spoilt["refc"] = np.where(refc > 0, refc * 1.12, refc)
    return spoilt


def fair_crps(members: np.ndarray, observed: np.ndarray) -> float:
    """Mean fair CRPS of members, (member, point)."""
    count = len(members)
    weights = (2 * np.arange(count) - count + 1) / (count * (count - 1))
    half = np.tensordot(weights, np.sort(members, axis=0), 1)
    return float((np.abs(members - observed).mean(0) - half).mean())


def sound(members: Fields) -> Fields:
    return members


class Sums:
    """Sums of one field over cases."""

    def __init__(self) -> None:
        self.n = 0
        self.crps = self.squared = self.variance = 0.0
        self.events = {40.0: [0.0, 0.0], 50.0: [0.0, 0.0]}

    def add(self, members: np.ndarray, observed: np.ndarray) -> None:
        flat = members.reshape(len(members), -1)
        self.n += 1
        self.crps += fair_crps(flat, observed.ravel())
        self.squared += float(np.mean((flat.mean(0) - observed.ravel()) ** 2))
        self.variance += float(flat.var(0, ddof=1).mean())
        for threshold, (_, _) in self.events.items():
            self.events[threshold][0] += float((flat >= threshold).mean())
            self.events[threshold][1] += float((observed >= threshold).mean())

    def results(self, name: str) -> dict[str, float]:
        size = (MEMBERS + 1) / MEMBERS
        said = {
            "crps": round(self.crps / self.n, 4),
            "spread_error": round(float(np.sqrt(size * self.variance / self.squared)), 3),
        }
        if name == "refc":
            for threshold, (forecast, observed) in self.events.items():
                said[f"frequency_bias_{threshold:g}"] = round(forecast / observed, 3) if observed else float("nan")
        return said


@dataclass(frozen=True)
class Case:
    """An initial time: its regimes, the exact members and the truth, by field."""

    init: np.datetime64
    regimes: np.ndarray
    members: Fields
    observed: Fields


def simulate(days: int, lead: int, seed: int) -> list[list[Case]]:
    """Exact ensembles of every EVERY hours, by day."""
    world = World(SIZE, SIZE, seed)
    truth = {time: world.observe(state, time) for time, state in world.nature_run(START, days * 24 + lead + 1)}
    cases: list[list[Case]] = [[] for _ in range(days)]
    for day in range(days):
        for init in START + day * 24 + np.arange(0, 24, EVERY):
            start = {name: values[0] for name, values in truth[init].items()}
            exact = world.exact_ensemble(start, init, leads=[lead], members=MEMBERS, seed=seed)
            cases[day].append(
                Case(
                    init,
                    sort_points(start["refc"], start["cape"]),
                    {name: exact[name][:, 0].astype(np.float32) for name in NAMES},
                    {name: truth[init + lead][name][0].astype(np.float32) for name in NAMES},
                )
            )
    return cases


def run(cases: list[list[Case]], window: int, lead: int, spoil: Callable[[int], Callable[[Fields], Fields]]) -> dict:
    """Learn each day from the days before it, and sum the scores of each day."""
    drawn: dict[str, list] = {name: [] for name in NAMES}
    kinds = "exact", "raw", "calibrated"
    sums = {kind: {name: [Sums() for _ in cases] for name in NAMES} for kind in kinds}
    for day, of_day in enumerate(cases):
        first = START + day * 24
        maps: dict = {}
        for name in NAMES:
            usable = [d for init, d in drawn[name] if first - window * 24 <= init and init + lead <= first]
            found = fit_maps(FIELDS[name], usable)
            if found:
                maps[name] = {str(lead): found}
        calibration = Calibration(str(first), str(first), 0, maps)
        for case in of_day:
            members = spoil(day)(case.members)
            for number, name in enumerate(NAMES):
                values, observed = members[name].astype(np.float32), case.observed[name]
                mapped = calibration.apply(FIELDS[name], lead, values, case.regimes)
                for kind, one in zip(kinds, (case.members[name], values, mapped), strict=True):
                    sums[kind][name][day].add(one, observed)
                key = (int(case.init.astype(int)), number)
                drawn[name].append((case.init, draw_points(values, observed, case.regimes, count=POINTS, seed=key)))
    return sums


def pooled(sums: list[Sums], name: str) -> dict[str, float]:
    """Scores of several days."""
    total = Sums()
    for one in sums:
        total.n += one.n
        for part in ("crps", "squared", "variance"):
            setattr(total, part, getattr(total, part) + getattr(one, part))
        for threshold, (forecast, observed) in one.events.items():
            total.events[threshold][0] += forecast
            total.events[threshold][1] += observed
    return total.results(name) | {"cases": total.n}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=20)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--lead", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    days, window = options.days, options.window
    middle = days // 2
    worlds = {
        "faulty throughout": (lambda _: too_sharp, range(window, days)),
        "faults from the middle on": (lambda day: too_sharp if day >= middle else sound, range(middle + 5, days)),
    }
    report: dict[str, dict] = {}
    cases = simulate(days, options.lead, options.seed)
    for title, (spoil, judged) in worlds.items():
        begun = time.perf_counter()
        results = run(cases, window, options.lead, spoil)
        report[title] = {
            "days judged": f"{judged[0]} to {judged[-1]} of {days}",
            **{
                name: {kind: pooled([results[kind][name][day] for day in judged], name) for kind in results}
                for name in NAMES
            },
            "seconds": round(time.perf_counter() - begun, 1),
        }
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for title, of_world in report.items():
        print(f"{title}: days {of_world['days judged']}, window {window} days, {of_world['seconds']} s")
        for name in NAMES:
            for kind, scores in of_world[name].items():
                print(f"  {name:5}{kind:12}" + "  ".join(f"{score} {value}" for score, value in scores.items()))


if __name__ == "__main__":
    main()
