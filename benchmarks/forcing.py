"""Measure what forcing by HRRR is worth, on a part of the simulated world, which does not see the air that flows in.

    python benchmarks/forcing.py --workspace DIR [--seeds 0,1,2] [--steps 300] [--threads 1] [--world 1] [--days 44]
        [--test-days 8] [--size 96] [--side 40] [--base 32] [--every 12]

A model with forcing and one without are trained alike on the middle of the torus, for 1, 3 and 6 h, and draw the same
test forecasts; the first draws them once more with its forcing withheld. All are scored beside the exact ensemble,
which is run from the whole world, the raw forecast of the simulated publisher, its time-lagged ensemble, and the forced
reference alone (model output statistics, one forecast). The reference is fitted once for all seeds, since
its fit is not random here. Results that exist are kept, so a run can be stopped and extended.

Ratios of CRPS are paired by case and resampled over days (95 %), each seed apart and all seeds together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import convcast.grib  # ecCodes is opened before torch
from convcast.archive.simulated.publisher import simulated_grid
from convcast.dataset import Dataset, window
from convcast.files import write_json
from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.formulas import ratio
from convcast.model import Forecaster, ModelDescription
from convcast.model.distributed import Distributed
from convcast.model.training import preparation
from convcast.model.training.records.progress import Tally
from convcast.model.training.trainer import Trainer
from convcast.notation import HOUR
from convcast.settings import Settings
from convcast.settings.load import load_settings, nested
from convcast.workspace import Workspace

LEADS = (1, 3, 6)
AGES = (0, 1)
LAGGED = (1, 2, 3, 4, 5)
MEMBERS = 12
START = np.datetime64("2024-05-09T00", "h")
FORCED = ['model.forcing="hrrr"', f"model.forcing_ages={list(AGES)}"]
RUNS = {"forced": (FORCED, ""), "withheld": (FORCED, "sampling.forcing=false"), "unforced": ([], "")}
"""Settings of the training, and of sampling, of each system that is a model."""


def convcast(workspace: Path, *words: str, threads: int, settings: list[str]) -> None:
    flags = [word for assignment in settings for word in ("--set", assignment)]
    command = [sys.executable, "-m", "convcast", *words, *flags, "--json", "-q", "-w", str(workspace)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(threads)})


class Benchmark:
    """One world, and the trainings of all seeds on a part of it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.root: Path = arguments.workspace
        self.arguments, self.threads = arguments, arguments.threads
        whole, side = simulated_grid(arguments.size), arguments.side
        top, left = (start + (arguments.size - side) // 2 for start in (whole.y0, whole.x0))
        self.last = START + (24 * arguments.days - 1) * HOUR
        self.first_test = self.last - (24 * arguments.test_days - 1) * HOUR
        self.inits = np.arange(self.first_test + 6 * HOUR, self.last - max(LEADS) * HOUR, arguments.every * HOUR)
        self.settings = [
            f"simulation.size={arguments.size}",
            f"simulation.seed={arguments.world}",
            f"simulation.days={arguments.days}",
            f"simulation.start={START}",
            f'dataset.region="{top}:{top + side},{left}:{left + side}"',
            f"model.leads={list(LEADS)}",
            f"model.base={arguments.base}",
            f"split.test_days={arguments.test_days}",
            f"training.patch={max(16, side)}",
            f"training.threads={arguments.threads}",
            f"sampling.threads={arguments.threads}",
            f"verification.lagged_ages={list(LAGGED)}",
            f"verification.baseline_members={MEMBERS}",
        ]

    def fetch(self) -> None:
        data = self.root / "data"
        source = ("--source", "simulated", "--preset", "demo")
        everything = ("--start", str(START), "--end", str(self.last), "--max-missing", "1")
        settings = [*self.settings, *FORCED]
        convcast(data, "fetch", *source, *everything, threads=self.threads, settings=settings)
        ahead = sorted({lead + age for lead in LEADS for age in (0, *LAGGED)})
        hours = ("--start", str(self.inits[0] + HOUR), "--end", str(self.inits[-1] + max(LEADS) * HOUR))
        leads = ("--what", "time-lagged", "--leads", ",".join(map(str, ahead)), "--max-missing", "1")
        convcast(data, "fetch", *source, *leads, *hours, threads=self.threads, settings=settings)
        convcast(data, "preprocess", threads=self.threads, settings=settings)

    def scores(self, system: str, seed: int) -> Path:
        return self.root / "scores" / f"{system} {seed}.zarr"

    def measure(self, seed: int) -> None:
        for system, (training, sampling) in RUNS.items():
            if self.scores(system, seed).exists():
                continue
            workspace = self.root / f"{'forced' if training else 'unforced'}-{seed}"
            shutil.copytree(self.root / "data", workspace, dirs_exist_ok=True)
            settings = [*self.settings, *training, f"training.seed={seed}", "training.minutes=100000.0"]
            run: dict[str, Any] = {"threads": self.threads, "settings": settings}
            self.begin(Workspace(workspace), settings)
            convcast(workspace, "train", "--max-steps", str(self.arguments.steps), **run)
            run["settings"] = [*settings, *filter(None, [sampling])]
            inits = f"{self.inits[0]}/{self.inits[-1]}/{self.arguments.every}h"
            convcast(workspace, "sample", "--init", inits, "--members", str(MEMBERS), **run)
            against = [word for name in ("exact", "hrrr", "time-lagged") for word in ("--against", name)]
            convcast(workspace, "verify", *against, "--name", "forcing", **run)
            shutil.copytree(workspace / "baselines", self.root / "data" / "baselines", dirs_exist_ok=True)
            self.scores(system, seed).parent.mkdir(exist_ok=True)
            shutil.copytree(workspace / "verification" / "forcing" / "scores.zarr", self.scores(system, seed))
            if system == "forced":
                self.output_statistics(workspace, seed)
            shutil.rmtree(workspace / "forecasts")
            print(f"{system} {seed} is done", flush=True)

    def begin(self, workspace: Workspace, settings: list[str]) -> None:
        """Write the untrained model, unless there is one, with a reference that all seeds share."""
        loaded = load_settings(workspace.settings_file, nested(settings))
        directory = workspace.model("demo")
        if not directory.exists():
            description = self.described(loaded).under(loaded)
            trainer = Trainer(description, loaded.training, Distributed(torch.device("cpu")))
            trainer.save(directory, 0.0, None, report=None, tally=Tally())

    def described(self, settings: Settings) -> ModelDescription:
        """Fit the reference of the models with or without forcing, or read it."""
        directory = self.root / "described" / settings.model.forcing
        if not directory.exists():
            torch.set_num_threads(self.threads)
            description = preparation.describe(Dataset.open(self.root / "data" / "dataset.zarr"), settings)
            write_json(directory / "model.json", description.to_dict())
        return ModelDescription.read(directory)

    def output_statistics(self, workspace: Path, seed: int) -> None:
        """Write the mean absolute error of the forced reference by init time, lead and field."""
        forecaster = Forecaster.load(workspace / "models" / "demo", precision="float32")
        dataset, forcing = Dataset.open(workspace / "dataset.zarr"), forecaster.forcing
        assert forcing is not None
        errors = np.full((len(self.inits), len(LEADS), len(dataset.variables)), np.nan)
        for i, init in enumerate(self.inits):
            for j, lead in enumerate(LEADS):
                age, *_ = dataset.ages(forcing, init, lead)
                forecast = forcing.forecast(init, lead, age)
                assert forecast is not None
                case = window(dataset, init, lead, with_target=True, forcing=(forecast, age))
                condition = forecaster.condition([case], periodic=False)
                mean = forecaster.fields(torch.zeros(1, *condition.shape), condition)[0]
                assert case.target is not None
                errors[i, j] = np.nanmean(np.abs(mean - case.target), axis=(1, 2))
        np.save(self.root / "scores" / f"mos {seed}.npy", errors)

    def crps(self, seed: int) -> dict[str, xr.DataArray]:
        """Return the CRPS (init_time, lead_time, field) by system."""
        found = {}
        for system in RUNS:
            with xr.open_zarr(self.scores(system, seed), consolidated=False) as opened:
                every = opened["crps"].load()
            found[system] = every.sel(system="convcast", drop=True)
            for other in ("exact", "hrrr", "time-lagged"):
                found.setdefault(other, every.sel(system=other, drop=True))
        like = found["forced"].transpose("init_time", "lead_time", "field")
        errors = np.load(self.root / "scores" / f"mos {seed}.npy")
        dataset = Dataset.open(self.root / "data" / "dataset.zarr")
        names = [variable.name for variable in dataset.variables]
        coordinates = {"init_time": self.inits.astype("datetime64[ns]"), "lead_time": like["lead_time"], "field": names}
        found["mos"] = xr.DataArray(errors, coordinates, ("init_time", "lead_time", "field"))
        return found

    def spread_error(self, system: str, seeds: list[int]) -> dict[int, float]:
        """Return spread over error by lead, as the mean over fields."""
        by_lead = {}
        for number, lead in enumerate(LEADS):
            values = []
            for seed in seeds:
                with xr.open_zarr(self.scores(system, seed), consolidated=False) as opened:
                    ours = opened[["spread", "rmse"]].sel(system="convcast").isel(lead_time=number).load()
                variance, error = (np.square(ours[name]).mean("init_time") for name in ("spread", "rmse"))
                values.append(np.sqrt((MEMBERS + 1) / MEMBERS * variance / error).mean())
            by_lead[lead] = float(np.mean(values))
        return by_lead

    def table(self, seeds: list[int]) -> str:
        crps = {seed: self.crps(seed) for seed in seeds}
        lines = ["| CRPS over that of | lead | mean of fields | by field |", "|---|---|---|---|"]
        pairs = [
            *(("forced", other) for other in ("exact", "unforced", "time-lagged", "hrrr", "mos")),
            *((other, "exact") for other in ("unforced", "withheld", "time-lagged", "hrrr", "mos")),
            ("withheld", "unforced"),
        ]
        for system, other in pairs:
            for number, lead in enumerate(LEADS):
                fields = [str(name) for name in crps[seeds[0]]["forced"]["field"].values]
                each = {name: self._ratio(crps, system, other, number, [name]) for name in fields}
                mean = self._ratio(crps, system, other, number, fields)
                by_field = ", ".join(f"{name} {text}" for name, text in each.items())
                lines.append(f"| {system} / {other} | {lead} h | {mean} | {by_field} |")
        for system in RUNS:
            spread = ", ".join(f"{lead} h {value:.2f}" for lead, value in self.spread_error(system, seeds).items())
            lines.append(f"\nspread/error of {system}: {spread}")
        cases = int(np.isfinite(crps[seeds[0]]["forced"].isel(lead_time=0, field=0)).sum())
        lines.append(f"\n{cases} init times of {self.arguments.test_days} days, {MEMBERS} members, seeds {seeds}")
        return "\n".join(lines)

    def _ratio(
        self, crps: dict[int, dict[str, xr.DataArray]], one: str, other: str, lead: int, names: list[str]
    ) -> str:
        """Return the ratio of mean CRPS, as the mean over fields, with its interval over days."""
        sums: list[list[np.ndarray]] = [[], []]
        days = None
        for by_system in crps.values():
            pair = xr.align(by_system[one].isel(lead_time=lead), by_system[other].isel(lead_time=lead), join="inner")
            days = pair[0]["init_time"].values.astype("datetime64[D]")
            for total, values in zip(sums, pair, strict=True):
                total.append(values.sel(field=names).transpose("init_time", "field").values)
        above, below = (np.mean(part, axis=0) for part in sums)
        assert days is not None
        numbers = np.unique(days, return_inverse=True)[1]
        daily = [np.stack([part[numbers == day].sum(0) for day in range(numbers.max() + 1)]) for part in (above, below)]
        bootstrap = Bootstrap(len(daily[0]), resamples=2000, seed=0, confidence=0.95)
        estimate = bootstrap.estimate(lambda a, b: ratio(a, b).mean(-1), *daily)
        return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("forcing"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--world", type=int, default=1, help="the seed of the simulated weather")
    parser.add_argument("--days", type=int, default=44)
    parser.add_argument("--test-days", type=int, default=8)
    parser.add_argument("--size", type=int, default=96, help="cells along each side of the world")
    parser.add_argument("--side", type=int, default=40, help="cells along each side of the part")
    parser.add_argument("--base", type=int, default=32)
    parser.add_argument("--every", type=int, default=12, help="hours between test forecasts")
    benchmark = Benchmark(parser.parse_args())
    seeds = [int(seed) for seed in benchmark.arguments.seeds.split(",")]
    benchmark.fetch()
    for seed in seeds:
        benchmark.measure(seed)
    table = benchmark.table(seeds)
    (benchmark.root / "table.json").write_text(json.dumps({"seeds": seeds, "table": table}))
    print(table)


if __name__ == "__main__":
    main()
