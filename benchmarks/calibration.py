"""Measure the calibration that a cycle learns, on the simulated world: raw and calibrated scores of later days.

Known errors are added to the exact ensemble of each hour, as a model might have them: too little spread, a bias of
temperature, and reflectivity that is too strong. Each day the maps are fitted to the forecasts of the last days whose
truth is known at the first initial time of the day, and applied to the forecasts of that day. In the drifted world the
errors begin in the middle. Intervals are of 95 %, by resampling days.

`python benchmarks/calibration.py --days 20 --window 5`

With --workspace the members of a trained network are calibrated: those in raw/ of a workspace of the simulated archive,
as `convcast sample --set sampling.calibration=true` leaves them. The days before --from are learnt from and not judged:

    convcast demo --pretrained -w W && mv W/forecasts W/forecasts-of-demo
    convcast fetch --start 2024-05-22T12 --end 2024-06-12T23 --set simulation.days=80 -w W && convcast preprocess -w W
    convcast sample --init 2024-05-23T00/2024-06-12T21/3h --members 20 --model pretrained \
        --set sampling.calibration=true -w W
    python benchmarks/calibration.py --workspace W --from 2024-06-02
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convcast.archive.simulated.world import World
from convcast.dataset import Dataset
from convcast.forecasts.calibration import Calibration
from convcast.metrics.regimes import sort_points
from convcast.variables import FIELDS
from convcast.verification.data.ensembles import open_ensembles
from convcast.verification.data.truth import Analyses, find_regimes
from convcast.verification.learn_calibration import draw_points, fit_maps

NAMES: tuple[str, ...] = ("refc", "t2m", "u10")
SIZE, MEMBERS = 96, 20
START = np.datetime64("2024-05-11T00", "h")
EVERY = 3
"""Hours between initial times."""
POINTS = 512
RESAMPLES = 500
KINDS = "exact", "raw", "calibrated"
"""Kinds of ensembles: as drawn, spoilt, and calibrated. A trained network's are drawn by the network."""

Fields = dict[str, np.ndarray]


def too_sharp(members: Fields) -> Fields:
    """Return members with too little spread, a warm bias, and echoes that are too strong."""
    spoilt = {name: values.mean(0) + 0.7 * (values - values.mean(0)) for name, values in members.items()}
    spoilt["t2m"] = spoilt["t2m"] + 0.8
    refc = members["refc"]
    mean = refc.mean(0)
    refc = np.where(refc > -10, np.maximum(mean + 0.8 * (refc - mean), -10), -10)
    spoilt["refc"] = np.where(refc > 0, refc * 1.12, refc)
    return spoilt


def fair_crps(members: np.ndarray, observed: np.ndarray) -> float:
    """Return the mean fair CRPS of members, (member, point)."""
    count = len(members)
    weights = (2 * np.arange(count) - count + 1) / (count * (count - 1))
    half = np.tensordot(weights, np.sort(members, axis=0), 1)
    return float((np.abs(members - observed).mean(0) - half).mean())


def sound(members: Fields) -> Fields:
    return members


THRESHOLDS = 40.0, 50.0
PARTS = 3 + 2 * len(THRESHOLDS)
"""CRPS, squared error of the mean, variance, and the fractions of members and truth beyond each threshold."""


def sums_of(members: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the mean over a case's points of each of PARTS, (PARTS,)."""
    flat, truth = members.reshape(len(members), -1).astype(np.float64), observed.ravel().astype(np.float64)
    size = (len(flat) + 1) / len(flat)
    events = [float((values >= threshold).mean()) for threshold in THRESHOLDS for values in (flat, truth)]
    squared = float(np.mean((flat.mean(0) - truth) ** 2))
    return np.array([fair_crps(flat, truth), squared, size * float(flat.var(0, ddof=1).mean()), *events])


def scores(sums: np.ndarray, name: str) -> dict[str, float]:
    """Return the scores of several cases from their sums, (case, PARTS)."""
    mean = sums.mean(0)
    found = {"crps": mean[0], "spread_error": np.sqrt(mean[2] / mean[1])}
    if name == "refc":
        for number, threshold in enumerate(THRESHOLDS):
            forecast, observed = mean[3 + 2 * number : 5 + 2 * number]
            found[f"frequency_bias_{threshold:g}"] = forecast / observed if observed else float("nan")
    return found


def with_intervals(of_days: dict[str, list[np.ndarray]], name: str) -> dict[str, dict[str, list[float]]]:
    """Return value, low and high of each score by kind of ensemble, and of its CRPS over that of the raw one.

    Args:
        of_days: Sums of the cases of each day, (case, PARTS), by kind.
        name: Field.
    """
    generator = np.random.default_rng(0)

    def all_scores(days: Iterable[int]) -> dict[tuple[str, str], float]:
        chosen = list(days)
        found = {
            (kind, score): value
            for kind, sums in of_days.items()
            for score, value in scores(np.concatenate([sums[day] for day in chosen]), name).items()
        }
        for kind in of_days:
            found[kind, "crps_over_raw"] = found[kind, "crps"] / found["raw", "crps"]
        return found

    count = len(of_days["raw"])
    values = all_scores(range(count))
    drawn = [all_scores(generator.integers(0, count, count)) for _ in range(RESAMPLES)]
    report: dict[str, dict[str, list[float]]] = {kind: {} for kind in of_days}
    for kind, score in values:
        low, high = np.nanpercentile([one[kind, score] for one in drawn], [2.5, 97.5])
        report[kind][score] = [round(float(value), 4) for value in (values[kind, score], low, high)]
    return report


@dataclass(frozen=True)
class Case:
    """An initial time: its regimes, the exact members and the truth, by field."""

    init: np.datetime64
    regimes: np.ndarray | None
    members: Fields
    observed: Fields


def simulate(days: int, lead: int, seed: int) -> list[list[Case]]:
    """Return exact ensembles of every EVERY hours, by day."""
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


def read_cases(root: Path, lead: int) -> list[list[Case]]:
    """Read the ensembles in raw/ of a workspace, and their analyses, by day."""
    truth = Analyses(Dataset.open(root / "dataset.zarr"))
    known = set(truth.hours.tolist())
    days: dict[np.datetime64, list[Case]] = {}
    for path in sorted((root / "raw").glob("*.zarr")):
        for one in open_ensembles(path, fields=truth.variables, points=truth.points, simulated=True).ensembles:
            members = one.members(lead)
            if (one.init + lead).item() in known and len(members) > 1:
                case = Case(
                    one.init,
                    find_regimes(truth, one.init),
                    {v.name: one.read(v, lead, members) for v in truth.variables},
                    {v.name: truth.read(v, one.init + lead) for v in truth.variables},
                )
                days.setdefault(one.init.astype("datetime64[D]"), []).append(case)
    return [days[day] for day in sorted(days)]


def run(
    cases: list[list[Case]], judged: range, window: int, lead: int, spoil: Callable[[int], Callable[[Fields], Fields]]
) -> dict[str, dict[str, list[np.ndarray]]]:
    """Learn each judged day from the days before it; return the sums of its cases by field and kind."""
    drawn: dict[str, list] = {name: [] for name in NAMES}
    sums: dict[str, dict[str, list]] = {name: {kind: [] for kind in KINDS} for name in NAMES}
    for day, of_day in enumerate(cases):
        first = of_day[0].init.astype("datetime64[D]").astype("datetime64[h]")
        maps: dict = {}
        for name in NAMES:
            if day not in judged:
                break
            usable = [(init, d) for init, d in drawn[name] if first - window * 24 <= init and init + lead <= first]
            found = fit_maps(FIELDS[name], [d for _, d in usable], [init for init, _ in usable])
            if found:
                maps[name] = {str(lead): found}
        calibration = Calibration(str(first), str(first), 0, maps)
        for name in NAMES:
            of_kind: dict[str, list] = {kind: [] for kind in KINDS}
            for case in of_day:
                values, observed = spoil(day)(case.members)[name].astype(np.float32), case.observed[name]
                key = (int(case.init.astype(int)), NAMES.index(name))
                drawn[name].append((case.init, draw_points(values, observed, case.regimes, count=POINTS, seed=key)))
                if day not in judged:
                    continue
                mapped = calibration.apply(FIELDS[name], lead, values, case.regimes)
                for kind, one in zip(KINDS, (case.members[name], values, mapped), strict=True):
                    of_kind[kind].append(sums_of(one, observed))
            if day in judged:
                for kind in KINDS:
                    sums[name][kind].append(np.array(of_kind[kind]))
    return sums


def main() -> None:
    global NAMES
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=20)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--lead", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workspace", type=Path, help="calibrate the members in raw/ of this workspace")
    parser.add_argument("--from", dest="first", help="first day that is judged, with --workspace")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    window = options.window
    if options.workspace is None:
        cases = simulate(options.days, options.lead, options.seed)
        middle, first = len(cases) // 2, window
        faulty = {"faulty throughout": lambda _: too_sharp}
    else:
        cases = read_cases(options.workspace, options.lead)
        NAMES = tuple(cases[0][0].members)
        first = next(n for n, of in enumerate(cases) if str(of[0].init.astype("datetime64[D]")) >= options.first)
        middle = max(first - 5, 1)  # so that the scored days are those after five days of drift
        faulty = {"as the network draws": lambda _: sound}
    worlds = faulty | {"faults from the middle on": lambda day: too_sharp if day >= middle else sound}
    report: dict[str, dict] = {}
    for title, spoil in worlds.items():
        begun = time.perf_counter()
        judged = range(max(first, middle + 5) if "middle" in title else first, len(cases))
        results = run(cases, judged, window, options.lead, spoil)
        report[title] = {
            "days": [str(cases[day][0].init.astype("datetime64[D]")) for day in judged],
            "cases": sum(len(cases[day]) for day in judged),
            "points": {
                f"{threshold:g} dBZ": sum(
                    int((c.observed["refc"] >= threshold).sum()) for d in judged for c in cases[d]
                )
                for threshold in THRESHOLDS
            },
            **{name: with_intervals(results[name], name) for name in NAMES},
            "seconds": round(time.perf_counter() - begun, 1),
        }
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for title, of_world in report.items():
        days = of_world["days"]
        print(f"{title}: {of_world['cases']} cases of {days[0]} to {days[-1]}, window {window} days")
        print("  points of the truth:", ", ".join(f"{number} of {name}" for name, number in of_world["points"].items()))
        for name in NAMES:
            for kind, found in of_world[name].items():
                said = "  ".join(f"{score} {v:.3f} [{a:.3f}, {b:.3f}]" for score, (v, a, b) in found.items())
                print(f"  {name:5}{kind:12}{said}")


if __name__ == "__main__":
    main()
