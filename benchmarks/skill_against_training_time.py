"""Measure skill against training time on the simulated archive: CRPS over the exact ensemble's after 1, 2, 5, ... min.

    python benchmarks/skill_against_training_time.py --minutes 1,2,5,10,20 --workspace DIR

Each time is a training of its own, since the learning rate falls to zero at its end. All are scored on the same 24
forecasts of 8 days that no training used. The default takes about 45 minutes on two idle cores; results that exist are
kept. Writes skill.json and skill.png to the workspace.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from convcast.cli.demo import DAYS, TEST_INITS

MEMBERS = 20


def convcast(workspace: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "convcast", *words, "--json", "-q", "-w", str(workspace)]
    print("$", " ".join(command[1:]), flush=True)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(root: Path, minutes: float) -> list[dict[str, Any]]:
    """Return the CRPS over the exact ensemble's, of the model and of the advection baseline, by field."""
    workspace = root / f"{minutes:g}-minutes"
    done = workspace / "verification" / "skill" / "scores.json"
    if not done.exists():
        shutil.copytree(root / "data", workspace, dirs_exist_ok=True)
        convcast(workspace, "train", "--max-minutes", str(minutes))
        convcast(workspace, "sample", "--init", TEST_INITS, "--members", str(MEMBERS))
        convcast(workspace, "verify", "--against", "exact", "--against", "advection", "--name", "skill")
        shutil.copytree(workspace / "baselines", root / "data" / "baselines", dirs_exist_ok=True)
    scores = json.loads(done.read_text())["scores"]
    steps = json.loads((workspace / "models" / "demo" / "model.json").read_text())["steps"]
    return [score | {"minutes": minutes, "steps": steps} for score in scores if score["score"] == "crps_ratio_exact"]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    fields = list(dict.fromkeys(row["field"] for row in rows))
    for number, field in enumerate(fields):
        ours = [row for row in rows if row["field"] == field and row["system"] == "convcast"]
        advection = next(row for row in rows if row["field"] == field and row["system"] == "advection")
        minutes = [row["minutes"] for row in ours]
        colour = f"C{number}"
        axes.plot(minutes, [row["value"] for row in ours], "o-", color=colour, label=field)
        axes.fill_between(minutes, [r["low"] for r in ours], [r["high"] for r in ours], color=colour, alpha=0.15)
        axes.plot([max(minutes) * 1.15], [advection["value"]], "_", color=colour, markersize=14, clip_on=False)
    axes.axhline(1, color="black", linewidth=1)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="minutes of training on two CPU cores",
        ylabel="fair CRPS relative to the exact ensemble",
        title="Skill against training time, SIMULATED world, 1 h (dashes at the right: advection)",
    )
    ticks = sorted({row["minutes"] for row in rows})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([1, 1.2, 1.5, 2, 3], ["1", "1.2", "1.5", "2", "3"])
    axes.minorticks_off()
    axes.legend(ncols=4, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", default="1,2,5,10,20")
    parser.add_argument("--workspace", type=Path, default=Path("skill-against-training-time"))
    arguments = parser.parse_args()
    root: Path = arguments.workspace
    convcast(root / "data", "fetch", "--source", "simulated", "--days", str(DAYS), "--preset", "demo")
    convcast(root / "data", "preprocess")
    rows: list[dict[str, Any]] = []
    for minutes in map(float, arguments.minutes.split(",")):
        rows += measure(root, minutes)
        ours = [row for row in rows if row["minutes"] == minutes and row["system"] == "convcast"]
        mean = sum(row["value"] for row in ours) / len(ours)
        by_field = ", ".join(f"{row['field']} {row['value']:.2f}" for row in ours)
        print(f"{minutes:g} minutes, {ours[0]['steps']} steps: mean {mean:.3f}; {by_field}", flush=True)
    (root / "skill.json").write_text(json.dumps(rows, indent=1))
    draw(rows, root / "skill.png")


if __name__ == "__main__":
    main()
