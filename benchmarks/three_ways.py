"""Compare ways to make an ensemble with the exact one: diffusion, one evaluation, and walks, on two simulated worlds.

    python benchmarks/three_ways.py --workspace DIR [--seconds 75] [--seeds 0,1,2] [--worlds demo,larger] [--json]

All models have the same weather, one fitted reference, and the same CPU time to train in: the steps of a training
follow from the CPU seconds of a step, measured once in each world on one thread. The guidance of the walks is chosen on
a third world. Scores are of days that no model has seen. Intervals are Student's over the training seeds, of the
difference from diffusion with the same seed, and bootstrapped over days, of the mean of the seeds. Results that
exist are kept, so a run can be stopped and extended. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import convcast.grib  # noqa: F401  ecCodes is opened before torch
from convcast.cli.demo import DAYS
from convcast.dataset import Dataset
from convcast.ensemble import sample
from convcast.files import read_json, write_json
from convcast.metrics import MODEL
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.formulas import ratio
from convcast.model import Forecaster, ModelDescription, train
from convcast.model.checkpoint import checkpoints
from convcast.model.distributed import Distributed
from convcast.model.training import preparation
from convcast.model.training.batches import batches
from convcast.model.training.records.progress import Tally
from convcast.model.training.trainer import Trainer
from convcast.notation import parse_hours
from convcast.settings import Settings
from convcast.settings.load import load_settings, nested
from convcast.verification import evaluate
from convcast.workspace import Workspace

LEADS = (1, 3)
PATCH = 40
"""Cells along each side of a training patch: the demo's world here, a part of the larger one."""
CALIBRATION = 8
"""Number of steps whose CPU time is measured, after some steps of warm-up."""
SCORES = {
    "crps_ratio_exact": "CRPS / exact",
    "spread_error_ratio": "spread / error",
    "spread_error_correlation": "correlation of spread with error",
    "log_spectral_distance": "log-spectral distance, dB",
    "frequency_bias": "frequency bias",
    "energy_score": "energy score",
}
THRESHOLDS = (40.0, 50.0)
EXACT = "exact"


@dataclass(frozen=True)
class World:
    """A simulated world, and the initial hours that are scored."""

    size: int
    seed: int
    inits: str


WORLDS = {
    "demo": World(40, 1, "2024-05-23T06/2024-05-30T22/12h"),
    "larger": World(64, 7, "2024-05-23T18/2024-05-30T22/24h"),
}
TUNING = World(40, 3, "2024-05-23T18/2024-05-30T22/24h")
"""The world on which the guidance of the walks is chosen."""


UNTRAINED = "reference"
"""Name of the model from which only the reference forecast is used."""
TRAININGS: dict[str, tuple[str, ...]] = {
    "diffusion": (),
    "perturbation": ("model.leads=[0]", 'model.reference={default="direct"}'),
    UNTRAINED: (),
}
"""Settings by training, in which trainings differ."""


@dataclass(frozen=True)
class Way:
    """A way to make an ensemble: the model, and the settings of sampling."""

    model: str
    settings: tuple[str, ...] = ()


WAYS = {
    "diffusion": Way("diffusion"),
    "diffusion, one evaluation": Way("diffusion", ("sampling.steps=1",)),
    "walks": Way(UNTRAINED, ('sampling.method="walks"', "sampling.steps=4")),
}


@dataclass(frozen=True)
class Bench:
    """One world: its workspace, and the data that all its trainings share."""

    workspace: Workspace
    world: World
    common: tuple[str, ...]
    seconds: float
    """CPU seconds of a training."""
    members: int
    days: int

    def settings(self, *assignments: str) -> Settings:
        leads = f"model.leads=[{','.join(map(str, LEADS))}]"
        common = (leads, f"training.patch={PATCH}", "training.threads=1", "training.warm_up=20", "sampling.threads=1")
        length = ("training.minutes=100000", "training.validation_cases=0", "verification.baseline_members=20")
        return load_settings(
            self.workspace.settings_file,
            nested([*common, *length, *self.common, *assignments]),
            preset="demo",
        )

    def prepare(self) -> None:
        """Make the dataset."""
        size, seed = f"simulation.size={self.world.size}", f"simulation.seed={self.world.seed}"
        words = ["--source", "simulated", "--days", str(self.days), "--preset", "demo"]
        flags = [word for one in (size, seed, *self.common) for word in ("--set", one)]
        for verb in (["fetch", *words, *flags], ["preprocess"]):
            command = [sys.executable, "-m", "convcast", *verb, "--json", "-q", "-w", str(self.workspace.root)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def train(self, name: str, seed: int) -> Path:
        """Train a model, unless it is there, and return its folder."""
        directory = self.workspace.model(f"{name}-{seed}")
        done = directory / "cpu.json"
        if done.exists():
            return directory
        settings = self.settings(*TRAININGS[name], f"training.seed={seed}", f"training.steps={self.steps(name)}")
        dataset = Dataset.open(self.workspace.dataset)
        if not checkpoints(directory):
            # All seeds share one reference, whose fit takes as long as a training.
            description = self.described(name).under(settings)
            trainer = Trainer(description, settings.training, Distributed(torch.device("cpu")))
            trainer.save(directory, 0.0, None, report=None, tally=Tally())
        started = time.process_time()
        for _ in train(dataset, directory, settings):
            pass
        write_json(done, {"seconds": time.process_time() - started, "steps": settings.training.steps})
        return directory

    def described(self, name: str) -> ModelDescription:
        """Fit the reference of the model, once in a world."""
        path = self.workspace.root / "described" / ("perturbation" if name == "perturbation" else "model")
        if not (path / "model.json").exists():
            description = preparation.describe(Dataset.open(self.workspace.dataset), self.settings(*TRAININGS[name]))
            write_json(path / "model.json", description.to_dict())
        return ModelDescription.read(path)

    def steps(self, name: str) -> int:
        """Return the number of steps that take the training's CPU time; the time of a step is measured once."""
        if name == UNTRAINED:
            return 1
        path = self.workspace.root / "steps" / f"{name}.json"
        if not path.exists():
            settings, description = self.settings(*TRAININGS[name]), self.described(name)
            trainer = Trainer(description.under(settings), settings.training, Distributed(torch.device("cpu")))
            cases, _ = preparation.cases(Dataset.open(self.workspace.dataset), description, settings)
            prepared = batches(cases, iter(range(10**6)), settings.training.batch)
            tally, before = Tally(), 0.0
            for step in range(3 + CALIBRATION):
                if step == 3:
                    before = time.process_time()
                trainer.learn([next(prepared)], 0.0, tally)
            write_json(path, (time.process_time() - before) / CALIBRATION)
        return max(1, round(self.seconds / float(read_json(path))))

    def measure(self, way: str, seed: int, *own: str) -> dict[str, Any]:
        """Draw and score the ensembles of one way and seed, unless that was done."""
        label = "-".join([way.replace(", ", "-").replace(" ", "-"), *(one.split("=")[1] for one in own), str(seed)])
        path = self.workspace.root / "scores" / f"{label}.json"
        if path.exists():
            found: dict[str, Any] = read_json(path)
            return found
        settings = self.settings(*WAYS[way].settings, *own)
        dataset = Dataset.open(self.workspace.dataset)
        forecaster = Forecaster.load(self.train(WAYS[way].model, seed), precision=settings.sampling.precision)
        perturbation = None
        if settings.sampling.method == "walks":
            perturbation = Forecaster.load(self.train("perturbation", seed), precision=settings.sampling.precision)
        solving = [time_solver(model) for model in (forecaster, perturbation) if model is not None]
        sampling = settings.sampling.model_copy(update={"precision": forecaster.precision})
        started, drawn, paths = time.process_time(), 0, []
        for init in parse_hours(self.world.inits):
            paths.append(self.workspace.root / "drawn" / label / f"{init}.zarr")
            how = {"members": range(self.members), "leads": LEADS, "settings": sampling, "perturbation": perturbation}
            drawn += len(list(sample(forecaster, dataset, paths[-1], init=init, **how)))
        each = len(paths) * self.members
        seconds = (time.process_time() - started) / each if drawn == len(LEADS) * each else None
        scores = self.scores(paths, dataset, settings)
        solver = sum(one[0] for one in solving) / each if seconds else None
        found = {"way": way, "seed": seed, "own": own, "seconds": seconds, "solver_seconds": solver, **scores}
        write_json(path, found)
        report(way, seed, found)
        return found

    def scores(self, paths: Sequence[Path], dataset: Dataset, settings: Settings) -> dict[str, Any]:
        evaluation = evaluate(
            paths,
            dataset,
            against=[EXACT],
            settings=settings.verification,
            workspace=self.workspace,
            keep=self.workspace.root / "cases",
        )
        for _ in evaluation:
            pass
        result = evaluation.result()
        rows = [
            {
                key: row.get(key)
                for key in ("field", "lead_hours", "score", "system", "threshold", "value", "low", "high")
            }
            for row in result.scores
            if row["score"] in SCORES
            and row.get("regime") is None
            and row["estimator"] in (None, "fair", "unbiased")
            and row.get("threshold") in (None, *THRESHOLDS)
        ]
        daily = {
            f"{system} {variable.name} {lead}": [
                float(one.sums["crps_fair"].sum()) for one in result.accumulator.daily(system, variable.name, lead)
            ]
            for system in (MODEL, EXACT)
            for variable in result.variables
            for lead in LEADS
        }
        return {"cases": result.facts.cases, "rows": rows, "daily": daily}

    def guidance(self, seed: int, tried: Sequence[float]) -> float:
        """Choose the guidance of walks: the least CRPS in the mean over fields and leads."""
        found = {w: self.measure("walks", seed, f"sampling.guidance={w:g}") for w in tried}
        return min(found, key=lambda w: float(np.mean(list(values(found[w], "crps_ratio_exact").values()))))


def time_solver(forecaster: Forecaster) -> list[float]:
    """Add up the CPU seconds of the forecaster's solver in the list returned."""
    spent, solve = [0.0], forecaster.solve

    def timed(*positional: Any, **named: Any) -> torch.Tensor:
        started = time.thread_time()
        state: torch.Tensor = solve(*positional, **named)
        spent[0] += time.thread_time() - started
        return state

    forecaster.solve = timed  # type: ignore[method-assign]
    return spent


def report(way: str, seed: int, found: dict[str, Any]) -> None:
    crps = np.mean(list(values(found, "crps_ratio_exact").values()))
    print(
        f"{way}, seed {seed}: CRPS / exact {crps:.3f}, {found['seconds'] or np.nan:.2f} s", file=sys.stderr, flush=True
    )


def values(
    found: dict[str, Any], score: str, *, lead: int | None = None, system: str = MODEL, threshold: float | None = None
) -> dict[tuple[str, int], float]:
    """Return a score by field and lead."""
    return {
        (row["field"], row["lead_hours"]): np.nan if row["value"] is None else row["value"]
        for row in found["rows"]
        if (row["score"], row["system"], row["threshold"]) == (score, system, threshold)
        and lead in (None, row["lead_hours"])
    }


def student(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half of the 95 % interval."""
    count = len(numbers)
    half = stats.t.ppf(0.975, count - 1) * np.std(numbers, ddof=1) / np.sqrt(count) if count > 1 else np.nan
    return float(np.mean(numbers)), float(half)


def over_days(
    runs: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]] | None, lead: int
) -> tuple[float | None, ...]:
    """Return value and interval of CRPS over that of the exact ensemble or of other runs, as the mean over fields.

    They are None where too many draws of days have no CRPS of the exact ensemble to divide by.
    """
    keys = [key for key in runs[0]["daily"] if key.startswith(f"{MODEL} ") and key.endswith(f" {lead}")]
    its = np.array([[run["daily"][key] for run in runs] for key in keys]).sum(axis=1)  # (field, day)
    if others is None:
        base = np.array([runs[0]["daily"][key.replace(MODEL, EXACT, 1)] for key in keys]) * len(runs)
    else:
        base = np.array([[run["daily"][key] for run in others] for key in keys]).sum(axis=1)
    bootstrap = Bootstrap(its.shape[1], resamples=2000, seed=0, confidence=0.95)
    one = bootstrap.estimate(lambda a, b: ratio(a, b).mean(axis=-1), its.T, base.T)
    return tuple(number if np.isfinite(number) else None for number in (one.value, one.low, one.high))


def summarise(runs: dict[str, list[dict[str, Any]]], lead: int) -> list[dict[str, Any]]:
    """Return a row for each way, with intervals over days (`days`) and over seeds, and one for the exact ensemble."""
    base, rows = runs["diffusion"], []
    exact = {key[0]: one for key, one in values(base[0], "energy_score", lead=lead, system=EXACT).items()}
    for way, system in [*((way, MODEL) for way in runs), (EXACT, EXACT)]:
        of_way = runs[way] if system == MODEL else base[:1]

        def by_field(score: str, of_way: Any = of_way, system: str = system) -> dict[str, float]:
            found = [values(run, score, lead=lead, system=system) for run in of_way]
            return {key[0]: float(np.mean([one[key] for one in found])) for key in found[0]}

        def mean(run: dict[str, Any], score: str, system: str = system) -> float:
            found = {key[0]: one for key, one in values(run, score, lead=lead, system=system).items()}
            if score == "energy_score":
                found = {field: one / exact[field] for field, one in found.items()}
            return float(np.mean(list(found.values())))

        row: dict[str, Any] = {"way": way, "lead_hours": lead, "seeds": [run["seed"] for run in of_way]}
        row["fields"] = {score: by_field(score) for score in SCORES if score not in ("frequency_bias",)}
        row["frequency_bias"] = {
            f"{threshold:g}": float(
                np.mean(
                    [
                        values(r, "frequency_bias", lead=lead, system=system, threshold=threshold)["refc", lead]
                        for r in of_way
                    ]
                )
            )
            for threshold in THRESHOLDS
        }
        row["mean"] = {
            score: float(np.mean([mean(r, score) for r in of_way]))
            for score in list(SCORES)[1:]
            if score != "frequency_bias"
        }
        if system == MODEL:
            row["crps_exact"] = over_days(of_way, None, lead)
            row["crps_diffusion_days"] = over_days(of_way, base[: len(of_way)], lead)
            seeds = {run["seed"]: run for run in base}
            paired = [(run, seeds[run["seed"]]) for run in of_way if run["seed"] in seeds]
            row["against_diffusion"] = {
                score: student([mean(run, score) - mean(other, score) for run, other in paired])
                for score in ("crps_ratio_exact", "log_spectral_distance", "spread_error_ratio", "energy_score")
            }
            for name in ("seconds", "solver_seconds"):
                known = [run[name] for run in of_way if run[name]]
                row[name] = float(np.mean(known)) if known else None
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    fields = list(rows[0]["fields"]["crps_ratio_exact"])
    head = [
        "way",
        "CRPS/exact (days)",
        "less diffusion (seeds)",
        *fields,
        "spread/error refc",
        "mean",
        "correlation refc",
    ]
    head += ["mean", "spectral distance refc, dB", "mean", "less diffusion (seeds)", "bias 40, 50 dBZ", "energy/exact"]
    head += ["CPU s a member", "in the solver"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        of, means = row["fields"], row["mean"]
        cells = [row["way"], "1", "", *("1" for _ in fields)]
        distance, times = "", ["", ""]
        if "crps_exact" in row:
            value, low, high = row["crps_exact"]
            against = row["against_diffusion"]
            crps = "{:+.3f} ± {:.3f}".format(*against["crps_ratio_exact"])
            cells = [
                row["way"],
                "–" if value is None else f"{value:.3f}" + ("" if low is None else f" [{low:.3f}, {high:.3f}]"),
                crps,
            ]
            cells += [f"{of['crps_ratio_exact'][field]:.2f}" for field in fields]
            distance = "{:+.2f} ± {:.2f}".format(*against["log_spectral_distance"])
            times = [f"{row[name]:.3f}" if row[name] else "" for name in ("seconds", "solver_seconds")]
        for score in ("spread_error_ratio", "spread_error_correlation", "log_spectral_distance"):
            cells += [f"{of[score]['refc']:.2f}", f"{means[score]:.2f}"]
        bias = ", ".join(f"{one:.2f}" for one in row["frequency_bias"].values())
        cells += [distance, bias, f"{means['energy_score']:.3f}", *times]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("three-ways"))
    parser.add_argument("--seconds", type=float, default=75, help="CPU seconds of each training")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--guidance", default="0.6,0.8,0.9,0.95", help="of walks; several to choose from")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--days", type=int, default=DAYS, help="days of weather")
    parser.add_argument("--size", type=int, help="cells along each side of all worlds, for a trial")
    parser.add_argument("--inits", help="initial hours of all worlds, for a trial")
    parser.add_argument("--set", action="append", default=[], help="a setting of everything, for a trial")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)

    def bench(name: str, world: World) -> Bench:
        world = World(arguments.size or world.size, world.seed, arguments.inits or world.inits)
        workspace = Workspace(arguments.workspace / name)
        made = Bench(workspace, world, tuple(arguments.set), arguments.seconds, arguments.members, arguments.days)
        if not workspace.dataset.exists():
            made.prepare()
        return made

    tried = [float(w) for w in arguments.guidance.split(",")]
    ways = [way.strip() for way in arguments.ways.split(";")]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    own: dict[str, tuple[str, ...]] = {}
    if "walks" in ways:
        chosen = bench("tuning", TUNING).guidance(0, tried) if len(tried) > 1 else tried[0]
        own["walks"] = (f"sampling.guidance={chosen:g}",)
    benches = {name: bench(name, WORLDS[name]) for name in arguments.worlds.split(",")}
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {way: [] for way in ways} for name in benches}
    for seed in seeds:
        for name, one in benches.items():
            for way in ways:
                runs[name][way].append(one.measure(way, seed, *own.get(way, ())))
    found = {name: {lead: summarise(of_world, lead) for lead in LEADS} for name, of_world in runs.items()}
    guidance = own["walks"][0].split("=")[1] if own else None
    if arguments.json:
        print(json.dumps({"guidance": guidance, "worlds": found}))
        return
    if guidance:
        print(f"guidance of walks: {guidance}")
    for name, by_lead in found.items():
        for lead, rows in by_lead.items():
            print(f"\n{name}, {lead} h, {runs[name]['diffusion'][0]['cases'] // len(LEADS)} forecasts\n\n{table(rows)}")


if __name__ == "__main__":
    main()
