"""Measure what each part of the method is worth, by the same training without it, on the simulated archive.

    python benchmarks/ablations.py --workspace DIR [--variants chosen,raw] [--seeds 0,1,2] [--steps 200] [--threads 1]
        [--world 1] [--set 'model.parameterisation="preconditioned"']

Every variant has the same weather, the same number of steps and the same test cases; only what its name says differs.
The score is fair CRPS divided by that of the exact ensemble; an interval is Student's over the training seeds, of the
ratio to the chosen recipe of the same seed. Results that exist are kept, so a run can be stopped and extended.
World 1 has the demo's test days; variants for a choice are compared on another world, in a separate workspace.
Prints a table in Markdown.
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
from scipy import stats

from convcast.cli.demo import DAYS

SIDE = 40
TEST_INITS = "2024-05-23T06/2024-05-30T22/8h"
MEMBERS = 12
EQUAL = "training.weights={refc=1.0,cape=1.0,cin=1.0}"
VARIANTS = {
    "chosen": [],
    "direct": ['model.reference={default="direct"}'],
    "persistence": ['model.reference={default="persistence"}'],
    "advected": ['model.reference={default="advected"}'],
    "velocity": ['model.parameterisation="velocity"'],
    "preconditioned": ['model.parameterisation="preconditioned"'],
    "raw": ['model.parameterisation="raw"'],
    "equal weights": [EQUAL],
    "no condition dropout": ["model.condition_dropout=0.0"],
    "dropout 0.1": ["model.dropout=0.1"],
}


def convcast(workspace: Path, *words: str, threads: int) -> None:
    command = [sys.executable, "-m", "convcast", *words, "--json", "-q", "-w", str(workspace)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)


def flags(assignments: list[str]) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


def measure(
    root: Path, variant: str, seed: int, guidances: list[float], common: list[str], *, steps: int, threads: int
) -> None:
    """Train, sample and score one variant with one seed; the chosen one is also sampled with each guidance.

    `common` settings are those of all variants.
    """
    wanted = {w: path for w, path in results(root, variant, seed, guidances).items() if not path.exists()}
    if not wanted:
        return
    workspace = root / f"{variant.replace(' ', '-').replace(',', '')}-{seed}"
    shutil.copytree(root / "data", workspace, dirs_exist_ok=True)
    settings = [
        *common,
        *VARIANTS[variant],
        f"training.threads={threads}",
        f"training.seed={seed}",
        "training.minutes=1000.0",
    ]
    convcast(workspace, "train", "--max-steps", str(steps), *flags(settings), threads=threads)
    for guidance, result in wanted.items():
        sampling = [f"sampling.threads={threads}", f"sampling.guidance={guidance}"]
        words = ["--init", TEST_INITS, "--members", str(MEMBERS), *flags(sampling)]
        convcast(workspace, "sample", *words, threads=threads)
        convcast(workspace, "verify", "--against", "exact", "--name", "ablation", threads=threads)
        shutil.copytree(workspace / "baselines", root / "data" / "baselines", dirs_exist_ok=True)
        shutil.rmtree(workspace / "forecasts")
        result.parent.mkdir(exist_ok=True)
        shutil.copy(workspace / "verification" / "ablation" / "scores.json", result)
        print(f"{result.stem}: {ratio(result, 'mean'):.3f}", flush=True)
    shutil.rmtree(workspace)


def results(root: Path, variant: str, seed: int, guidances: list[float]) -> dict[float, Path]:
    """Return the files of the results by guidance."""
    named = {1.0: variant} | ({w: f"{variant}, guidance {w:g}" for w in guidances} if variant == "chosen" else {})
    return {w: root / "scores" / f"{name} {seed}.json" for w, name in named.items()}


def scores(path: Path, score: str) -> dict[str, float]:
    """Return a score of convcast by field."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["scores"]
    return {
        row["field"]: row["value"]
        for row in rows
        if row["system"] == "convcast" and row["score"] == score and row.get("regime") is None
    }


def ratio(path: Path, field: str) -> float:
    """Return CRPS over the exact ensemble's, for a field or as the mean over fields."""
    by_field = scores(path, "crps_ratio_exact")
    return float(np.mean(list(by_field.values()))) if field == "mean" else by_field[field]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the mean and 95 % interval (Student), computed from logarithms."""
    logs = np.log(values)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else np.nan
    return tuple(
        float(np.exp(logs.mean() + sign * half)) if sign else float(np.exp(logs.mean())) for sign in (0, -1, 1)
    )


def table(root: Path, seeds: list[int], guidances: list[float]) -> str:
    names = [*VARIANTS, *(f"chosen, guidance {w:g}" for w in guidances)]
    found = {name: [root / "scores" / f"{name} {seed}.json" for seed in seeds] for name in names}
    found = {name: [path for path in paths if path.exists()] for name, paths in found.items()}
    fields = list(scores(found["chosen"][0], "crps_ratio_exact"))
    lines = [
        "| variant | seeds | CRPS/exact | relative to chosen | " + " | ".join(fields) + " | spread/error |",
        "|" + "---|" * (5 + len(fields)),
    ]
    for name, paths in found.items():
        if not paths:
            continue
        base = {path.stem.rsplit(" ", 1)[1]: path for path in found["chosen"]}
        paired = [ratio(p, "mean") / ratio(base[s], "mean") for p in paths if (s := p.stem.rsplit(" ", 1)[1]) in base]
        mean, low, high = interval(paired)
        spread = [np.mean(list(scores(path, "spread_error_ratio").values())) for path in paths]
        cells = [f"{interval([ratio(path, field) for path in paths])[0]:.2f}" for field in fields]
        relative = "1" if name == "chosen" else f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        overall = f"{interval([ratio(path, 'mean') for path in paths])[0]:.3f}"
        lines.append(
            f"| {name} | {len(paths)} | {overall} | {relative} | {' | '.join(cells)} | {np.mean(spread):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("ablations"))
    parser.add_argument("--variants", default=",".join(name.replace(",", ";") for name in VARIANTS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--world", type=int, default=1, help="the seed of the simulated weather")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="a setting of all variants")
    parser.add_argument(
        "--guidance", default="0.7,0.85,1.15", help="other than 1, that the chosen recipe is drawn with"
    )
    arguments = parser.parse_args()
    root: Path = arguments.workspace
    world = ["--set", f"simulation.size={SIDE}", "--set", f"simulation.seed={arguments.world}", "--preset", "demo"]
    convcast(root / "data", "fetch", "--source", "simulated", "--days", str(DAYS), *world, threads=arguments.threads)
    convcast(root / "data", "preprocess", threads=arguments.threads)
    guidances = [float(w) for w in arguments.guidance.split(",") if w]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for seed in seeds:
        for variant in (name.strip().replace(";", ",") for name in arguments.variants.split(",")):
            measure(root, variant, seed, guidances, arguments.set, steps=arguments.steps, threads=arguments.threads)
    print(table(root, seeds, guidances))


if __name__ == "__main__":
    main()
