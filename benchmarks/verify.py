"""Measure memory and time of verification on the whole HRRR domain, beside packages that compute some of the scores.

    python benchmarks/verify.py --fields refc --cases 2
    python benchmarks/verify.py --fields all --cases 24 --against persistence,climatology,advection
    python benchmarks/verify.py --digest

Ensembles are written as `convcast sample` writes them. Each run is a process of its own whose peak memory is read at
its end, on Linux (getrusage reports the parent's peak if that was higher). Prints a table in
Markdown. `--digest` prints instead the SHA-256 of all statistics of 128 ensembles, which is equal for versions that
compute the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.variables import FIELDS, REFC, Variable

START = np.datetime64("2026-07-01T00", "h")
DIFFERENT = 3
"""Number of different ensembles; those of later hours are hard links to their chunks, to save disk space."""


def publish(root: Path, cases: int, members: int, names: Sequence[str], *, history: int) -> None:
    """Write ensembles an hour apart, as `convcast sample` does, and a truth of every hour: noise of storms' sizes."""
    from scipy.ndimage import gaussian_filter

    from convcast.dataset import HourStatus
    from convcast.dataset.layout import DatasetDescription
    from convcast.dataset.store import Store
    from convcast.forecasts.store import EnsembleStore, ForecastDescription
    from convcast.grid import CONUS

    generator = np.random.default_rng(0)
    variables = tuple(FIELDS[name] for name in names)
    shapes = [gaussian_filter(generator.standard_normal(CONUS.shape, np.float32), 8) for _ in range(4)]
    shapes = [shape / shape.std() for shape in shapes]

    def field(variable: Variable, number: int) -> NDArray[np.float32]:
        """Make a field; with a floor, most of the domain is at the floor, as it is without storms."""
        low, high = variable.display
        if variable is REFC:
            values = np.clip(25 * shapes[number % 4] - 10, -10, 70)
        elif variable.may_be_constant:
            values = np.clip((low + high) / 4 * shapes[number % 4], *sorted((0, low + high)))
        else:
            values = (low + high) / 2 + (high - low) / 8 * shapes[number % 4]
        return np.roll(values, 37 * number, axis=1).astype(np.float32)

    store = Store.create(
        root / "dataset.zarr", DatasetDescription(variables, CONUS, False, 0), np.zeros((2, *CONUS.shape), np.float32)
    )
    hours = START + np.arange(cases + 1)
    past = START + np.arange(-history, cases + 1)
    for number, hour in enumerate(past):
        store.write_hour(hour, np.stack([field(variable, number - history) for variable in variables]))
    store.write_status(past, HourStatus.OK, [{"valid": str(hour)} for hour in past])
    for case in range(cases):
        description = ForecastDescription(hours[case], (1,), (1,), variables, CONUS, {}, {})
        ensemble = EnsembleStore.prepare(root / "forecasts" / f"{case:03d}.zarr", description, members=members)
        if case < DIFFERENT:
            for member in range(members):
                ensemble.write(member, 1, np.stack([field(variable, case + member + 5) for variable in variables]))
            continue
        for name in (*names, "complete"):
            to, of = (root / f"forecasts/{number:03d}.zarr/{name}/c" for number in (case, case % DIFFERENT))
            shutil.copytree(of, to, copy_function=os.link, dirs_exist_ok=True)


RUN = """
import json, re, resource, sys, time
from pathlib import Path
import numpy as np
from convcast.dataset import Dataset
from convcast.settings import VerificationSettings
from convcast.verification import evaluate
from convcast.workers import Workers
root, cases, workers, keep, against = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]
paths = sorted((root / "forecasts").glob("*.zarr"))[:cases]
start = time.perf_counter()
run = evaluate(paths, Dataset.open(root / "dataset.zarr"), against=against.split(","), settings=VerificationSettings(),
               workspace=None, keep=Path(keep) if keep else None, workers=Workers(workers) if workers else None)
times = []
for scored in run:
    times.append((time.perf_counter(), time.process_time()))
run.result()
last, cpu = np.ptp(np.array(times)[[0, -1]], axis=0) / max(len(times) - 1, 1)
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000
others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
print(json.dumps({"seconds": time.perf_counter() - start, "each": last, "cpu": cpu, "own": own, "others": others}))
"""


def measure(root: Path, cases: int, *, against: str, workers: int = 0, keep: str = "") -> dict[str, float]:
    words = [sys.executable, "-c", RUN, str(root), str(cases), str(workers), keep, against]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peers(root: Path) -> dict[str, float]:
    """Return the seconds of other packages for some of the scores of REFC, with members and truth in memory."""
    import properscoring
    import xarray as xr
    import xskillscore
    from pysteps.utils.spectral import rapsd
    from pysteps.verification.spatialscores import fss

    from convcast.dataset import Dataset

    observed = Dataset.open(root / "dataset.zarr").read((START + 1,))[0, 0]
    members = xr.open_zarr(root / "forecasts" / "000.zarr")["refc"][0, :, 0].values
    forecast = xr.DataArray(members, dims=("member", "y", "x"))
    truth = xr.DataArray(observed, dims=("y", "x"))
    members_last = np.ascontiguousarray(np.moveaxis(members, 0, -1))
    dbz, widths = list(REFC.thresholds), (3, 9, 27)
    work: dict[str, Callable[[], object]] = {
        "CRPS: properscoring": lambda: properscoring.crps_ensemble(observed, members_last),
        "rank histogram: xskillscore": lambda: xskillscore.rank_histogram(truth, forecast, dim=("y", "x")),
        "Brier scores of 4 thresholds: xskillscore": lambda: xskillscore.threshold_brier_score(truth, forecast, dbz),
        "FSS of one member, 4 thresholds, 3 widths: pysteps": lambda: [
            fss(members[0], observed, threshold, width) for threshold in dbz for width in widths
        ],
        "spectra of 4 members and the truth: pysteps": lambda: [
            rapsd(field, fft_method=np.fft) for field in (*members[:4], observed)
        ],
    }
    times = {}
    for name, run in work.items():
        run()  # compiles
        started = time.perf_counter()
        run()
        times[name] = time.perf_counter() - started
    return times


def digests() -> dict[str, str]:
    """Return the SHA-256 of statistics of ensembles of 1 to 50 members, with and without edges and missing points."""
    from convcast.metrics.regimes import REGIMES
    from convcast.metrics.spatial import Scales
    from convcast.metrics.sums import score_field

    found = {}
    sizes = np.unique(np.round(np.linspace(1, 50, 32)).astype(int)).tolist()
    for where, periodic in (("torus", True), ("with edges", False)):
        for kind, holes in (("no holes", False), ("holes", True)):
            digest = hashlib.sha256()
            for number, members in enumerate(sizes):
                generator = np.random.default_rng([number, periodic, holes])
                variable = tuple(FIELDS.values())[number % len(FIELDS)]
                shape = 61, 77
                fields = _patterns(generator, (members + 1, *shape), variable)
                if holes:
                    fields[generator.random(fields.shape) < 0.002] = np.nan
                statistics = score_field(
                    fields[1:],
                    fields[0],
                    variable,
                    regimes=generator.integers(-1, len(REGIMES), shape).astype(np.int8),
                    scales=Scales.of((3.0, 9.0, 27.0, 81.0), shape, periodic=periodic),
                    chunk=1000,
                )
                for name, values in sorted(_arrays(asdict(statistics))):
                    digest.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
            found[f"{where}, {kind}, {len(sizes)} ensembles"] = digest.hexdigest()
    return found


def _patterns(generator: np.random.Generator, shape: tuple[int, ...], variable: Variable) -> NDArray[np.float32]:
    """Return smooth patterns of rounded values, so that members tie, with half of the points at the field's floor."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(generator.standard_normal(shape), (0, 3, 3))
    low, high = variable.display
    values = (low + high) / 2 + (high - low) / 4 * smooth / smooth.std()
    if variable.floor is not None:
        values = np.where(smooth > 0, values, variable.floor.none)
    rounded: NDArray[np.float32] = (np.round(values * variable.scale) / variable.scale).astype(np.float32)
    return rounded


def _arrays(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _arrays(value, f"{prefix}{name} ")
        else:
            yield prefix + name, np.asarray(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--fields", default="refc", help="names with commas, or `all`")
    parser.add_argument("--history", type=int, default=0, help="hours of the dataset before the first case")
    parser.add_argument("--against", default="persistence")
    parser.add_argument("--workspace", type=Path, help="folder in which the files stay; they are written only once")
    parser.add_argument("--twice", action="store_true", help="also with twice the cases, again, and on two workers")
    parser.add_argument("--peers", action="store_true", help="also packages that compute some of the scores of REFC")
    parser.add_argument("--digest", action="store_true", help="print the SHA-256 of all statistics of small ensembles")
    asked = parser.parse_args()
    if asked.digest:
        for name, digest in digests().items():
            print(f"{digest}  {name}", flush=True)
        return
    names = tuple(FIELDS) if asked.fields == "all" else asked.fields.split(",")
    with tempfile.TemporaryDirectory(prefix="convcast-verify-") as folder:
        root = asked.workspace or Path(folder)
        if not (root / "dataset.zarr").exists():
            publish(root, asked.cases * (2 if asked.twice else 1), asked.members, names, history=asked.history)
        print(
            "| | seconds in all | seconds a further case | of a processor | peak memory, MB | of a worker, MB |\n"
            "|---|---|---|---|---|---|"
        )
        runs: dict[str, dict[str, Any]] = {f"{asked.cases} cases": {"cases": asked.cases}}
        if asked.twice:
            more = {"cases": 2 * asked.cases}
            runs[f"{2 * asked.cases} cases"] = more | {"keep": folder}
            runs[f"{2 * asked.cases} cases, again"] = more | {"keep": folder}
            runs[f"{2 * asked.cases} cases, 2 workers"] = more | {"workers": 2}
        for name, options in runs.items():
            row = measure(root, against=asked.against, **options)
            others = f"{row['others']:.0f}" if "workers" in options else ""
            times = f"{row['seconds']:.1f} | {row['each']:.2f} | {row['cpu']:.2f}"
            print(f"| {name} | {times} | {row['own']:.0f} | {others} |", flush=True)
        if asked.peers:
            print("\n| | seconds |\n|---|---|")
            for name, seconds in peers(root).items():
                print(f"| {name} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
