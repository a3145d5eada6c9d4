"""Memory and time of verification on the whole HRRR domain: fields of many members, a few cases and twice as many.

    python benchmarks/verify.py --members 50 --cases 2

Each run is a process of its own whose peak memory is read at its end, on Linux (what getrusage says of a process is
what its parent had, if that was more). Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

START = np.datetime64("2026-07-01T00", "h")


def write(root: Path, cases: int, members: int) -> None:
    """Ensembles of REFC an hour apart and a truth of every hour: noise of storms' sizes, not weather."""
    from scipy.ndimage import gaussian_filter

    from convcast.conventions import ensemble_dataset
    from convcast.dataset import HourStatus
    from convcast.dataset.layout import DatasetDescription
    from convcast.dataset.store import Store
    from convcast.grid import CONUS
    from convcast.variables import REFC

    generator = np.random.default_rng(0)
    shapes = [gaussian_filter(generator.standard_normal(CONUS.shape, np.float32), 8) for _ in range(4)]
    echoes = [np.clip(200 * s / s.std() / 8 - 10, -10, 70).astype(np.float32) for s in shapes]

    def echo(number: int) -> np.ndarray:
        return np.roll(echoes[number % 4], 37 * number, axis=1)

    store = Store.create(
        root / "dataset.zarr", DatasetDescription((REFC,), CONUS, False, 0), np.zeros((2, *CONUS.shape), np.float32)
    )
    hours = START + np.arange(cases + 1)
    for number, hour in enumerate(hours):
        store.write_hour(hour, echo(number)[None])
    store.write_status(hours, HourStatus.OK, [{"valid": str(hour)} for hour in hours])
    for case in range(cases):
        fields = {"refc": np.stack([echo(case + m + 5) for m in range(members)])[:, None]}
        ensemble_dataset(
            fields, init=hours[case], members=range(members), leads=[1], grid=CONUS, attributes={}
        ).to_zarr(root / "forecasts" / f"{case:03d}.zarr", zarr_format=3, consolidated=False)


RUN = """
import json, re, resource, sys, time
from pathlib import Path
import numpy as np
from convcast.dataset import Dataset
from convcast.settings import VerificationSettings
from convcast.verification import evaluate
from convcast.workers import Workers
root, cases, workers, keep = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
paths = sorted((root / "forecasts").glob("*.zarr"))[:cases]
start = time.perf_counter()
run = evaluate(paths, Dataset.open(root / "dataset.zarr"), against=["persistence"], settings=VerificationSettings(),
               workspace=None, keep=Path(keep) if keep else None, workers=Workers(workers) if workers else None)
times = []
for scored in run:
    times.append((time.perf_counter(), time.process_time()))
row = run.result().find("refc", "crps", "convcast", estimator="fair")
last, cpu = np.ptp(np.array(times)[[0, -1]], axis=0) / max(len(times) - 1, 1)
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000
others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
print(json.dumps({"seconds": time.perf_counter() - start, "each": last, "cpu": cpu, "own": own, "others": others,
                  "crps": row["value"]}))
"""


def measure(root: Path, cases: int, workers: int = 0, keep: str = "") -> dict[str, float]:
    words = [sys.executable, "-c", RUN, str(root), str(cases), str(workers), keep]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--cases", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convcast-verify-") as folder:
        root = Path(folder)
        write(root, 2 * asked.cases, asked.members)
        print(
            "| | seconds in all | seconds a further case | of a processor | peak memory, MB | of a worker, MB |\n"
            "|---|---|---|---|---|---|"
        )
        keep = str(root / "cases")
        for name, row in (
            (f"{asked.cases} cases", measure(root, asked.cases)),
            (f"{2 * asked.cases} cases", measure(root, 2 * asked.cases, keep=keep)),
            (f"{2 * asked.cases} cases, again", measure(root, 2 * asked.cases, keep=keep)),
            (f"{2 * asked.cases} cases, 2 workers", measure(root, 2 * asked.cases, workers=2)),
        ):
            others = f"{row['others']:.0f}" if "workers" in name else ""
            times = f"{row['seconds']:.1f} | {row['each']:.2f} | {row['cpu']:.2f}"
            print(f"| {name} | {times} | {row['own']:.0f} | {others} |", flush=True)


if __name__ == "__main__":
    main()
