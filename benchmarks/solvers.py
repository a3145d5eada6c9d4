"""Compare solvers and numbers of steps: CRPS and spread against the exact ensemble, on the simulated archive.

    python benchmarks/solvers.py --workspace DIR [--minutes 10] [--threads 1] [--guidance 0.7,0.85,1.15]

One model, trained once, draws the same initial hours with every solver and number of steps, from the same noise.
Scores are of 48 initial hours on 8 days that the model has not seen; intervals are bootstrapped over days, those
of differences from DDPM at all T steps are paired. Results that exist are kept. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

import convcast.grib
from convcast.cli.demo import DAYS
from convcast.dataset import Dataset
from convcast.ensemble import cover, member_noise
from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.metrics.xarray_api import crps_ensemble
from convcast.model import Forecaster
from convcast.notation import HOUR, Hour, parse_hours
from convcast.settings import DEFAULT_EVALUATIONS, SamplingSettings, SolverName

SIDE = 40
INITS = "2024-05-23T02/2024-05-30T22/4h"
STEPS = (1, 3, 5, 7, 10, 20, 50)
FIELDS = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")
SOLVER_NAMES: tuple[SolverName, ...] = ("exponential", "unipc", "dpmpp_2m", "ddim", "ddpm")
REFERENCE = "ddpm 200"
RESAMPLES = 2000
EXACT_MEMBERS = 20
Floats = NDArray[np.float64]


def convcast(workspace: Path, *words: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "convcast", *words, "--json", "-q", "-w", str(workspace)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


@dataclass(frozen=True)
class Run:
    """One way to draw an ensemble."""

    solver: SolverName
    steps: int
    guidance: float = 1.0
    eta: float = 0.0

    @property
    def name(self) -> str:
        extra = f", eta {self.eta:g}" * bool(self.eta) + f", guidance {self.guidance:g}" * (self.guidance != 1)
        return f"{self.solver}{extra} {self.steps}"


def measure(workspace: Path, runs: list[Run], members: int, threads: int) -> None:
    """Draw every initial hour in every way that has no file yet, and store CRPS and variance, (init, field, 2)."""
    wanted = [run for run in runs if not (workspace / f"{run.name}.npy").exists()]
    if not wanted:
        return
    dataset = Dataset.open(workspace / "dataset.zarr")
    forecaster = Forecaster.load(workspace / "models" / "demo", precision="float32")
    tiling = cover(dataset.grid, tile=256, overlap=64)
    shape = (len(forecaster.variables), *dataset.grid.shape)
    rows: dict[str, list[Floats]] = {run.name: [] for run in wanted}
    torch.set_num_threads(threads)
    for init in parse_hours(INITS):
        truth = dataset.read([init + HOUR])[0]
        for guidance in sorted({run.guidance for run in wanted}):
            with torch.inference_mode():
                case = TiledDenoiser.of_hours(forecaster, dataset, tiling, init=init, lead=1, guidance=guidance)
                for run in (run for run in wanted if run.guidance == guidance):
                    rows[run.name].append(statistics(draw(case, run, init, shape, members), truth))
        print(init, flush=True)
    for name, row in rows.items():
        np.save(workspace / f"{name}.npy", np.array(row))


def draw(case: TiledDenoiser, run: Run, init: Hour, shape: tuple[int, ...], members: int) -> NDArray[np.float32]:
    """Draw members (member, variable, y, x), each from the noise that `convcast sample` gives it."""

    def noise(step: int) -> torch.Tensor:
        return torch.from_numpy(np.stack([member_noise(0, init, m, 1, shape, step=step) for m in range(members)]))

    return case.draw(noise, SamplingSettings(solver=run.solver, steps=run.steps, eta=run.eta))


def statistics(members: NDArray[np.float32], truth: NDArray[np.float32]) -> Floats:
    """Return fair CRPS and variance of each field, (field, 2)."""
    drawn = xr.DataArray(members.astype(float), dims=("number", "field", "y", "x"))
    observed = xr.DataArray(truth.astype(float), dims=("field", "y", "x"))
    crps = crps_ensemble(observed, drawn, member_dim="number", estimator="fair", dim=["y", "x"])
    return np.stack([crps.values, drawn.var("number", ddof=1).mean(["y", "x"]).values], axis=-1)


def exact_statistics(workspace: Path) -> Floats:
    """Return `statistics` of the exact ensembles that verification made, (init, field, 2)."""
    dataset, rows = Dataset.open(workspace / "dataset.zarr"), []
    for path in sorted((workspace / "baselines" / "exact").glob("*.zarr")):
        with xr.open_zarr(path, consolidated=False, decode_timedelta=True) as data:
            init = data.init_time.values[0].astype("datetime64[h]")
            members = np.stack([data[field].values[0, :, 0] for field in FIELDS], axis=1)
            rows.append(statistics(members, dataset.read([init + HOUR])[0]))
    return np.array(rows)


def resampled(days: int, per_day: int) -> NDArray[np.int64]:
    """Return indices of initial hours, (resample, init), with whole days drawn with replacement."""
    chosen = np.random.default_rng(0).integers(days, size=(RESAMPLES, days))
    return (chosen[:, :, None] * per_day + np.arange(per_day)).reshape(RESAMPLES, -1)


def ratio(ours: Floats, other: Floats) -> Floats:
    """Return the ratio of CRPS, as the mean over fields, of arrays (…, init, field)."""
    found: Floats = (ours.mean(axis=-2) / other.mean(axis=-2)).mean(axis=-1)
    return found


def table(root: Path, names: list[str], reference: str) -> None:
    exact = np.load(root / "exact.npy")
    base = np.load(root / f"{reference}.npy")
    draws = resampled(len(exact) // 6, 6)
    print(f"| solver | evaluations | CRPS/exact | against {reference} | REFC | CAPE | spread/exact | REFC |")
    print("|" + "---|" * 8)
    for name in names:
        path = root / f"{name}.npy"
        if not path.exists():
            continue
        ours = np.load(path)
        crps, spread = ours[..., 0], np.sqrt(ours[..., 1].mean(0) / exact[..., 1].mean(0))
        own = ratio(crps[draws], exact[draws][..., 0])
        paired = ratio(crps[draws], base[draws][..., 0])
        low, high = np.quantile(own, [0.025, 0.975])
        below, above = np.quantile(paired, [0.025, 0.975])
        by_field = crps.mean(0) / exact[..., 0].mean(0)
        solver, _, count = name.rpartition(" ")
        print(
            f"| {solver} | {count} | {ratio(crps, exact[..., 0]):.3f} [{low:.3f}, {high:.3f}] "
            f"| {ratio(crps, base[..., 0]):.3f} [{below:.3f}, {above:.3f}] "
            f"| {by_field[0]:.2f} | {by_field[5]:.2f} | {spread.mean():.2f} | {spread[0]:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("solvers"))
    parser.add_argument("--minutes", type=float, default=10, help="of training")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--guidance", default="0.7,0.85,1.15", help="drawn with the default solver")
    arguments = parser.parse_args()
    root, threads = arguments.workspace, arguments.threads
    world = ["--set", f"simulation.size={SIDE}", "--preset", "demo"]
    convcast(root, "fetch", "--source", "simulated", "--days", str(DAYS), *world, threads=threads)
    convcast(root, "preprocess", threads=threads)
    training = ["--max-minutes", str(arguments.minutes), "--set", f"training.threads={threads}"]
    convcast(root, "train", *training, threads=threads)
    members = arguments.members
    exact = root / "exact.npy"
    if not exact.exists():
        # Verification makes the exact ensembles of the hours of any forecasts.
        convcast(root, "sample", "--init", INITS, "--members", "2", "--steps", "1", threads=threads)
        baseline = ["--against", "exact", "--set", f"verification.baseline_members={EXACT_MEMBERS}"]
        convcast(root, "verify", *baseline, "--name", "solvers", threads=threads)
        np.save(exact, exact_statistics(root))
        shutil.rmtree(root / "forecasts")
    runs = [Run(solver, steps) for solver in SOLVER_NAMES for steps in STEPS]
    runs += [Run("ddpm", 200), Run("ddim", 20, eta=0.5)]
    usual = SamplingSettings().solver
    runs += [Run(usual, DEFAULT_EVALUATIONS, guidance=float(w)) for w in arguments.guidance.split(",") if w]
    measure(root, runs, members, threads)
    table(root, [run.name for run in runs], REFERENCE)


if __name__ == "__main__":
    main()
