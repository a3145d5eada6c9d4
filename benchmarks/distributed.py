"""Measure how much faster two processes train than one: samples a second under torchrun, on the simulated archive.

    python benchmarks/distributed.py --workspace DIR [--steps 60] [--repeats 3]

One thread a process, so that two have two cores where one has one. Runs alternate; each trains the demo's network anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path


def run(*command: str) -> None:
    subprocess.run([sys.executable, *command], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def rate(workspace: Path, processes: int, steps: int) -> float:
    """Return the samples a second in the second half of a training."""
    model = workspace / "models" / "distributed"
    shutil.rmtree(model, ignore_errors=True)
    settings = {"threads": 1, "log_every": steps // 2, "checkpoint_every": 10**6, "minutes": 1e6, "validation_cases": 0}
    flags = [word for name, value in settings.items() for word in ("--set", f"training.{name}={value}")]
    flags += ["--set", "split.test_days=0"]
    training = ["train", "--model", "distributed", "--max-steps", str(steps), "-q", "-w", str(workspace), *flags]
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    run(*torchrun, "-m", "convcast", *training)
    return json.loads((model / "log.jsonl").read_text().splitlines()[-1])["samples_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=Path("distributed"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    place = ["-q", "-w", str(arguments.workspace)]
    run("-m", "convcast", "fetch", "--source", "simulated", "--days", "3", "--preset", "demo", *place)
    run("-m", "convcast", "preprocess", *place)
    ratios = []
    for _ in range(arguments.repeats):
        one, two = (rate(arguments.workspace, processes, arguments.steps) for processes in (1, 2))
        ratios.append(two / one)
        print(f"1 process {one:.1f} samples/s, 2 processes {two:.1f}: {two / one:.2f}", flush=True)
    print(f"2 processes to 1: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
