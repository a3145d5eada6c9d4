"""What solvers and steps are worth: CRPS and spread against the exact ensemble, on the simulated archive.

    python benchmarks/solvers.py --workspace DIR [--minutes 10] [--threads 1] [--guidance 0.7,0.85,1.15]

One model, trained once, draws the same initial hours with every solver and number of steps, from the same noise.
Scores are of 48 initial hours on 8 days that the model has not seen; intervals are bootstrapped over days, those
against DDPM at all T steps in pairs. What is there already is kept. Prints the tables of docs/method.md.
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
import xarray as xr
from numpy.typing import NDArray

from convcast.cli.demo import DAYS
from convcast.dataset import Dataset
from convcast.notation import HOUR
from convcast.verification.scores import crps_ensemble

SIDE = 40
INITS = "2024-05-23T02/2024-05-30T22/4h"
STEPS = (5, 10, 20, 50)
FIELDS = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")
SOLVERS = ("dpmpp_2m", "unipc", "ddim", "ddpm")
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


def measure(workspace: Path, path: Path, members: int, words: list[str], threads: int) -> None:
    """Draw every initial hour so, and keep what scores are made of."""
    if path.exists():
        return
    sampling = [*words, "--set", f"sampling.threads={threads}"]
    convcast(workspace, "sample", "--init", INITS, "--members", str(members), *sampling, threads=threads)
    np.save(path, statistics(workspace / "forecasts", Dataset.open(workspace.joinpath("dataset.zarr"))))
    shutil.rmtree(workspace / "forecasts")
    print(path.stem, "drawn", flush=True)


def statistics(folder: Path, dataset: Dataset) -> Floats:
    """Fair CRPS and variance, (init, field, 2)."""
    rows = []
    for path in sorted(folder.glob("*.zarr")):
        with xr.open_zarr(path, consolidated=False, decode_timedelta=True) as data:
            init = data.init_time.values[0].astype("datetime64[h]")
            truth = dict(zip((v.name for v in dataset.variables), dataset.read([init + HOUR])[0], strict=True))
            row = []
            for field in FIELDS:
                drawn = data[field].isel(init_time=0, lead_time=0).astype(float).load()
                observed = xr.DataArray(truth[field].astype(float), dims=("y", "x"))
                variance = float(drawn.var("number", ddof=1).mean())
                crps = float(crps_ensemble(observed, drawn, member_dim="number", estimator="fair", dim=["y", "x"]))
                row.append((crps, variance))
            rows.append(row)
    return np.array(rows)


def resampled(days: int, per_day: int) -> NDArray[np.int64]:
    """Indices of initial hours, (resample, init), whole days drawn with replacement."""
    chosen = np.random.default_rng(0).integers(days, size=(RESAMPLES, days))
    return (chosen[:, :, None] * per_day + np.arange(per_day)).reshape(RESAMPLES, -1)


def ratio(ours: Floats, other: Floats) -> Floats:
    """Ratio of CRPS, in the mean over fields, of arrays (…, init, field)."""
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
        # Any forecasts will do for the exact ensembles of their hours to be made.
        convcast(root, "sample", "--init", INITS, "--members", "2", "--steps", "1", threads=threads)
        baseline = ["--against", "exact", "--set", f"verification.baseline_members={EXACT_MEMBERS}"]
        convcast(root, "verify", *baseline, "--name", "solvers", threads=threads)
        np.save(exact, statistics(root / "baselines" / "exact", Dataset.open(root / "dataset.zarr")))
        shutil.rmtree(root / "forecasts")
    runs = {f"{solver} {n}": ["--solver", solver, "--steps", str(n)] for solver in SOLVERS for n in STEPS}
    runs |= {REFERENCE: ["--solver", "ddpm"]}
    runs |= {"ddim, eta 0.5 20": ["--solver", "ddim", "--steps", "20", "--set", "sampling.eta=0.5"]}
    for w in (float(text) for text in arguments.guidance.split(",") if text):
        runs[f"dpmpp_2m, guidance {w:g} 20"] = ["--guidance", str(w)]
    for name, words in runs.items():
        measure(root, root / f"{name}.npy", members, words, threads)
    table(root, list(runs), REFERENCE)


if __name__ == "__main__":
    main()
