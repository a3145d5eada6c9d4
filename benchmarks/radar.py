"""Measure skill on real radar beside STEPS: train on some events, forecast others.

    python benchmarks/radar.py --train FILE.npz [--test FILE.npz] [--minutes 15] [--workspace DIR] [--json]

A file holds sequences of radar composites on cells of 3 km, int16 (time, y, x) in tenths of a dBZ, -100 for no echo,
row 0 in the south, under keys `event.crop.phase@step`. Each frame is written as an hour of REFC in the HRRR bucket's
layout, with false dates and no ground, so that the model is trained without hour, sun and ground. Without `--test` the
events of `--train` are cross-validated: each third of them is forecast by a model trained on the others. Systems:

- convcast: the demo preset with leads 1, 3 and 6, `augmentation = "rotations"`, 20 members;
- steps: STEPS of pysteps (Bowler et al. 2006; Pulkkinen et al. 2019), with Lucas-Kanade motion, 5 cascade levels, 20
  members, threshold 7 dBZ, and otherwise its defaults; it needs the package pysteps;
- advection: the last frame advected by the motion of the model's inputs, plus residuals of 20 training cases;
- persistence: the last frame.

Scores are over the inner 60 x 60 cells of domains of 80 x 80: fair CRPS (dBZ), the same where STEPS knows what comes in
over the edges (`crps_inside`; elsewhere it has no echo), spread over error, fractions skill score
of 30 dBZ at 27 km, frequency biases, area with echo (forecast over observed), log-spectral distance of four members
(dB), and their power over that observed at wavelengths below 8 cells.
Rows of the event `all` are means over the events; their intervals resample events.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast import grib
from convcast.archive import locations
from convcast.dataset import Dataset, usable_inits, window
from convcast.grid import Grid
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.formulas import log_spectral_distance, spread_error_ratio
from convcast.metrics.kernels import score_points
from convcast.metrics.scores.spectra import BANDS, MEMBERS as SPECTRA, spectrum
from convcast.notation import HOUR, Hour
from convcast.variables import NO_ECHO, REFC

Floats = NDArray[np.float32]
Case = tuple[str, Hour]

LEADS = (1, 3, 6)
HISTORY = 4
MEMBERS = 20
RIM = 10
"""Cells at each edge that are not scored."""
THRESHOLDS = (20.0, 30.0, 40.0)
FINE = 8.0
"""Wavelengths below this many cells are fine scales."""
START = np.datetime64("2023-01-01T00", "h")
APART = HISTORY + max(LEADS)
"""Hours without frames between two sequences, so that no case has frames of both."""
INITS = 2
"""Initial times of each sequence; a sequence of more than 100 frames counts as three."""
FOLDS = 3
WEAKEST = 7.0
"""Weakest echo of the sequences, dBZ: 0.1 mm/h."""
DRY = 0.01
"""Cases whose last frame has less than this share of echo are left out."""
SETTINGS = (
    "dataset.fields=['refc']",
    "dataset.ground=flat",
    f"model.leads={list(LEADS)}",
    "model.inputs=[]",
    "training.augmentation=rotations",
)


def event_of(key: str) -> str:
    return key.split(".")[0]


def read_sequences(path: Path) -> dict[str, Floats]:
    """Read the sequences of a file, in dBZ."""
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key].astype(np.float32) / 10 for key in file.files if file[key].dtype == np.int16}


def is_validation(key: str, keys: Sequence[str]) -> bool:
    """Whether a training sequence is kept for validation: the last crop of an event that has several."""
    crops = sorted({other.split("@")[0].split(".")[1] for other in keys if event_of(other) == event_of(key)})
    return len(crops) > 1 and key.split("@")[0].split(".")[1] == crops[-1]


def lay_out(training: Mapping[str, Floats], test: Mapping[str, Floats]) -> tuple[dict[str, Hour], int, int]:
    """Return the first hour of each sequence, and the days of the validation and the test period."""
    keys = list(training)
    fitted = [key for key in keys if not is_validation(key, keys)]
    validated = [key for key in keys if is_validation(key, keys)]
    starts: dict[str, Hour] = {}
    ends = []
    day = 0
    for part in (fitted, validated, list(test)):
        for key in part:
            starts[key] = START + 24 * day * HOUR
            day += math.ceil((len((training | dict(test))[key]) + APART) / 24)
        ends.append(day)
    return starts, ends[1] - ends[0], ends[2] - ends[1]


def publish(root: Path, sequences: Mapping[str, Floats], starts: Mapping[str, Hour]) -> None:
    """Write the frames as hours of the HRRR bucket, without terrain and land mask."""
    first = next(iter(sequences.values()))[0]
    grid = Grid(*first.shape, 500, 900)
    for key, frames in sequences.items():
        for offset, frame in enumerate(frames):
            time = starts[key] + offset * HOUR
            path = root / locations.archive_path(locations.hrrr(time, 0))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(grib.encode(frame, key=REFC.grib, grid=grid, init=time, lead_hours=0, simulated=False))
            stamp = str(time).replace("-", "").replace("T", "")
            row = f"1:0:d={stamp}:{REFC.index_name}:{REFC.index_level}:anl:\n"
            path.with_name(path.name + locations.INDEX_SUFFIX).write_text(row)


def convcast(workspace: Path, *words: str, accept: tuple[int, ...] = (0,)) -> None:
    """Run a verb as a user would."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "convcast", *words, *settings, "-q", "-w", str(workspace)]
    finished = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if finished.returncode not in accept:
        raise SystemExit(f"`{' '.join(words)}` stopped with exit code {finished.returncode}")


def prepare(
    workspace: Path, training: Mapping[str, Floats], test: Mapping[str, Floats], minutes: float
) -> dict[str, Hour]:
    """Fetch, preprocess and train in `workspace`; results that exist are kept. Return the sequences' first hours."""
    starts, validation_days, test_days = lay_out(training, test)
    split = ["--set", f"split.validation_days={validation_days}", "--set", f"split.test_days={test_days}"]
    if not (workspace / "dataset.zarr").exists():
        with contextlib.ExitStack() as stack:
            root = workspace.parent / f"{workspace.name}-bucket"
            stack.callback(shutil.rmtree, root, ignore_errors=True)
            publish(root, dict(training) | dict(test), starts)
            for key, frames in (dict(training) | dict(test)).items():
                start, end = starts[key], starts[key] + (len(frames) - 1) * HOUR
                hours = ["--start", str(start), "--end", str(end)]
                convcast(workspace, "fetch", "--source", str(root), *hours, "--preset", "demo")
        convcast(workspace, "preprocess")
    convcast(workspace, "train", f"--max-minutes={minutes}", *split)
    return starts


def test_cases(dataset: Dataset, test: Mapping[str, Floats], starts: Mapping[str, Hour]) -> list[Case]:
    """Return key and initial time of the test cases; a crop's second phase is the same weather and left out."""
    cases = []
    for key, frames in test.items():
        parts = key.split("@")[0].split(".")
        if len(parts) == 3 and parts[2] != "0":
            continue
        count = INITS * (3 if len(frames) > 100 else 1)
        for offset in np.unique(np.linspace(HISTORY - 1, len(frames) - 1 - max(LEADS), count).astype(int)):
            if (frames[offset] > NO_ECHO).mean() >= DRY:
                cases.append((key, starts[key] + int(offset) * HOUR))
    usable = set(usable_inits(dataset.hours, history=HISTORY, leads=LEADS))
    return [case for case in cases if case[1] in usable]


def convcast_members(workspace: Path, dataset: Dataset, cases: Sequence[Case]) -> Iterator[Floats]:
    """Draw the members of each case, (member, lead, y, x)."""
    import torch

    from convcast.ensemble import sample
    from convcast.forecasts.open import open_forecast
    from convcast.model import Forecaster
    from convcast.settings import SamplingSettings

    torch.set_num_threads(2)
    forecaster = Forecaster.load(next((workspace / "models").iterdir()), device="cpu")
    digest = forecaster.sha256[:12]
    for _, init in cases:
        path = workspace / "radar" / f"{digest}-{init}.zarr"
        path.parent.mkdir(exist_ok=True)
        settings = SamplingSettings(members=MEMBERS)
        for _ in sample(forecaster, dataset, path, init=init, members=range(MEMBERS), leads=LEADS, settings=settings):
            pass
        yield np.asarray(open_forecast(path)["refc"][0], np.float32)


def steps_members(frames: Floats, number: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Draw STEPS members from the frames up to the initial time.

    Returns:
        Members (member, lead, y, x), with no echo where nothing is known of what comes in over the edges, and where all
        members have a value of their own, (lead, y, x).
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from pysteps import motion, nowcasts

        dry = -15.0
        history = np.where(frames <= NO_ECHO, dry, frames).astype(float)
        velocity = motion.get_method("LK")(history, verbose=False)
        drawn = nowcasts.get_method("steps")(
            history[-3:], velocity, max(LEADS), MEMBERS, n_cascade_levels=5, precip_thr=WEAKEST, kmperpixel=3.0,
            timestep=10, seed=number, num_workers=1,
        )  # fmt: skip
    chosen = drawn[:, [lead - 1 for lead in LEADS]]
    return np.where(chosen >= WEAKEST, chosen, NO_ECHO).astype(np.float32), np.isfinite(chosen).all(axis=0)


class AdvectionBaseline:
    """The last frame advected, plus the residuals of training cases, without regard to the (false) hour of day."""

    def __init__(self, dataset: Dataset, until: Hour) -> None:
        inits = usable_inits(dataset.hours[dataset.hours < until], history=HISTORY, leads=LEADS)
        self._dataset = dataset
        self._inits = np.random.default_rng(0).choice(inits, MEMBERS, replace=False)
        self._residuals: list[Floats] = []

    def members(self, init: Hour) -> Floats:
        """Return the members of a case, (member, lead, y, x)."""
        if not self._residuals:
            for past in self._inits:
                cases = [window(self._dataset, past, lead, history=HISTORY, with_target=True) for lead in LEADS]
                self._residuals.append(np.stack([c.target[0] - c.advected[0] for c in cases if c.target is not None]))
        moved = np.stack([window(self._dataset, init, lead, history=HISTORY).advected[0] for lead in LEADS])
        raw = moved + np.stack(self._residuals)
        return np.where(raw >= WEAKEST, np.minimum(raw, REFC.bounds[1]), NO_ECHO).astype(np.float32)


def case_sums(members: Floats, observed: Floats, inside: NDArray[np.bool_]) -> dict[str, float]:
    """Sum the scores of one case and lead.

    Args:
        members: (member, y, x).
        observed: (y, x).
        inside: Where STEPS has values, (y, x).
    """
    from scipy.ndimage import uniform_filter

    inner = slice(RIM, -RIM)
    drawn, truth = members[:, inner, inner], observed[inner, inner]
    points = score_points(drawn.reshape(len(drawn), -1).astype(float), truth.ravel().astype(float))
    crps = points.crps("fair" if len(drawn) > 1 else "ensemble")
    sums = {
        "crps": float(crps.mean()),
        "crps_inside": float(crps[inside[inner, inner].ravel()].mean()),
        "variance": float(points.variance.mean()) if len(drawn) > 1 else 0.0,
        "squared_error": float((points.error**2).mean()),
        "observed_echo": float((truth > NO_ECHO).mean()),
        "echo": float((drawn > NO_ECHO).mean()),
    }
    for threshold in THRESHOLDS:
        sums[f"forecast_{threshold:g}"] = float((drawn >= threshold).mean())
        sums[f"observed_{threshold:g}"] = float((truth >= threshold).mean())
    forecast, event = (drawn >= 30).mean(axis=0), (truth >= 30).astype(float)
    fractions = [uniform_filter(field.astype(float), 9, mode="constant") for field in (forecast, event)]
    powers = np.mean([spectrum(member, periodic=False)[0] for member in drawn[:SPECTRA]], axis=0)
    for name, power in (("forecast", powers), ("observed", spectrum(truth, periodic=False)[0])):
        sums |= {f"{name}_power_{band}": float(value) for band, value in enumerate(power)}
    sums["fss_error"] = float(((fractions[0] - fractions[1]) ** 2).mean())
    sums["fss_reference"] = float((fractions[0] ** 2).mean() + (fractions[1] ** 2).mean())
    return sums


Sums = Mapping[str, NDArray[np.float64]]


def power(sums: Sums, bands: range = range(len(BANDS) - 1)) -> NDArray[np.float64]:
    """Return the spectra of members and observation, (..., 2, band)."""
    names = ("forecast", "observed")
    return np.stack([np.stack([sums[f"{name}_power_{band}"] for band in bands], -1) for name in names], -2)


def fine_power_ratio(sums: Sums) -> NDArray[np.float64]:
    """Return the power of members over that observed at fine scales."""
    forecast, observed = np.moveaxis(power(sums, range(int(np.searchsorted(BANDS, FINE)))).sum(-1), -1, 0)
    return np.asarray(forecast / observed)


SCORES: dict[str, Callable[[Sums], NDArray[np.float64]]] = {
    "crps": lambda s: s["crps"],
    "crps_inside": lambda s: s["crps_inside"],
    "spread_error_ratio": lambda s: spread_error_ratio(s["variance"], s["squared_error"], MEMBERS),
    "fss_30dBZ_27km": lambda s: 1 - s["fss_error"] / s["fss_reference"],
    "echo_area_ratio": lambda s: s["echo"] / s["observed_echo"],
    "log_spectral_distance": lambda s: log_spectral_distance(power(s)),
    "fine_power_ratio": fine_power_ratio,
    "frequency_bias_20dBZ": lambda s: s["forecast_20"] / s["observed_20"],
    "frequency_bias_30dBZ": lambda s: s["forecast_30"] / s["observed_30"],
    "frequency_bias_40dBZ": lambda s: s["forecast_40"] / s["observed_40"],
}
"""Scores by name, from sums in which each event counts alike."""


def table(results: Mapping[tuple[str, int, str], list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Return the rows of the result: each event, then all events with intervals over them.

    Args:
        results: Sums of the cases by event, lead and system.
    """
    rows: list[dict[str, Any]] = []
    events = sorted({event for event, _, _ in results})
    bootstrap = Bootstrap(len(events), resamples=2000, seed=0, confidence=0.95)

    def row(event: str, lead: int, system: str, score: str, value: float, low: float, high: float, n: int) -> None:
        numbers = [float(v) if np.isfinite(v) else None for v in (value, low, high)]
        names = dict(zip(("value", "low", "high"), numbers, strict=True))
        rows.append({"event": event, "lead": lead, "system": system, "score": score, **names, "n": n})

    for lead in LEADS:
        means: dict[str, dict[str, NDArray[np.float64]]] = {}
        for system in ("convcast", "steps", "advection", "persistence"):
            of_events = [results[event, lead, system] for event in events]
            names = of_events[0][0]
            sums = {name: np.array([np.mean([case[name] for case in cases]) for cases in of_events]) for name in names}
            means[system] = sums
            for score, ends in SCORES.items():
                if system == "persistence" and score == "spread_error_ratio":
                    continue
                with np.errstate(divide="ignore", invalid="ignore"):
                    for event, value, cases in zip(events, ends(sums), of_events, strict=True):
                        row(event, lead, system, score, value, np.nan, np.nan, len(cases))
                    keys = list(sums)
                    estimate = bootstrap.estimate(
                        lambda *totals, keys=keys, ends=ends: ends(
                            {key: total / len(events) for key, total in zip(keys, totals, strict=True)}
                        ),
                        *sums.values(),
                    )
                row("all", lead, system, score, estimate.value, estimate.low, estimate.high, len(events))
        for score in ("crps", "crps_inside"):
            ratio = bootstrap.estimate(lambda a, b: a / b, means["convcast"][score], means["steps"][score])
            row("all", lead, "convcast", f"{score}_over_steps", ratio.value, ratio.low, ratio.high, len(events))
    return rows


def draw_members(path: Path, case: str, observed: Floats, systems: Mapping[str, Floats]) -> None:
    """Draw the truth beside two members of convcast and of STEPS, a row for each lead."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(len(LEADS), 5, squeeze=False)
    for at, lead in enumerate(LEADS):
        drawn = [("observed", observed[at])]
        drawn += [(f"{name}, member {k}", systems[name][k, at]) for name in ("convcast", "steps") for k in (0, 1)]
        for ax, (title, field) in zip(axes[at], drawn, strict=True):
            shown = np.where(field > NO_ECHO, field, np.nan)
            image = ax.imshow(shown, origin="lower", cmap="turbo", vmin=0, vmax=55)
            ax.set_title(f"{title}, step {lead}", fontsize=8)
            ax.set_xticks([])
            ax.set_yticks([])
    figure.colorbar(image, ax=axes, label="reflectivity (dBZ)", shrink=0.6)
    figure.suptitle(f"Radar, {case}; steps of 10 minutes, cells of 3 km")
    figure.savefig(path, dpi=110)


def run(workspace: Path, training: Mapping[str, Floats], test: Mapping[str, Floats], minutes: float) -> dict[Any, Any]:
    """Train on some sequences, forecast others; return the sums of the cases by event, lead and system."""
    starts = prepare(workspace, training, test, minutes)
    dataset = Dataset.open(workspace / "dataset.zarr")
    cases = test_cases(dataset, test, starts)
    baseline = AdvectionBaseline(dataset, min(starts[key] for key in test))
    results: dict[tuple[str, int, str], list[dict[str, float]]] = {}
    drawn = convcast_members(workspace, dataset, cases)
    for number, ((key, init), ours) in enumerate(zip(cases, drawn, strict=True)):
        at = int((init - starts[key]) / HOUR)
        frames = test[key]
        observed = frames[[at + lead for lead in LEADS]]
        steps, inside = steps_members(frames[at + 1 - HISTORY : at + 1], number)
        systems = {
            "convcast": ours,
            "steps": steps,
            "advection": baseline.members(init),
            "persistence": np.repeat(frames[at][None, None], len(LEADS), axis=1),
        }
        for name, members in systems.items():
            for index, lead in enumerate(LEADS):
                sums = case_sums(members[:, index], observed[index], inside[index])
                results.setdefault((event_of(key), lead, name), []).append(sums)
        if number % 5 == 0:
            draw_members(workspace / f"{key.split('@')[0]}-{at}.png", f"{key}, frame {at}", observed, systems)
        print(f"{number + 1} of {len(cases)} cases", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--test", type=Path, metavar="FILE.npz", help="without it, the events are cross-validated")
    parser.add_argument("--minutes", type=float, default=15, help="minutes of training of each model")
    parser.add_argument("--workspace", type=Path, default=Path("convcast-radar"))
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    arguments = parser.parse_args()
    if not arguments.train.is_file() or (arguments.test and not arguments.test.is_file()):
        parser.error("there is no such file")
    training = read_sequences(arguments.train)
    if arguments.test:
        folds = [(training, read_sequences(arguments.test))]
    else:
        events = sorted({event_of(key) for key in training})
        folds = []
        for held in (events[i::FOLDS] for i in range(FOLDS)):
            test = {key: frames for key, frames in training.items() if event_of(key) in held}
            folds.append(({key: frames for key, frames in training.items() if key not in test}, test))
    results: dict[Any, Any] = {}
    for number, (fitted, test) in enumerate(folds):
        results |= run(arguments.workspace / f"fold{number}", fitted, test, arguments.minutes)
    rows = table(results)
    if arguments.json:
        print(json.dumps({"rows": rows}))
        return
    for row in rows:
        if row["event"] == "all":
            ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
            value = "-" if row["value"] is None else f"{row['value']:.3f}"
            print(f"{row['lead']}  {row['system']:12s} {row['score']:22s} {value}{ends}")


if __name__ == "__main__":
    main()
