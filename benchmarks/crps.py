"""Measure the CRPS of an ensemble of 50 on the whole HRRR domain: convcast's kernel beside its peers.

    python benchmarks/crps.py --repeats 3

50 x 1059 x 1799 float32, members first as they are stored, reflectivity-like with ties at the floor. Each contender
runs in a process of its own, forked after the data were made, and is called on a few points first: the least time of
a processor of the repeats, all threads together, which other programs on the machine change little, and the most memory
that the process took beyond what it had before them. scoringrules and scores are measured
where they are installed. `reading` sums the array once by numpy, as a bound. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

MEMBERS, SHAPE = 50, (1059, 1799)
Field = NDArray[np.float32]


def convcast_fair(forecasts: Field, observed: Field) -> float:
    from convcast.metrics.kernels import crps_points

    return float(np.mean(crps_points(forecasts.reshape(MEMBERS, -1), observed.reshape(-1), "fair")))


def convcast_all(forecasts: Field, observed: Field) -> float:
    """Compute every statistic of the report, on one thread."""
    from convcast.metrics.sums import score_field
    from convcast.variables import REFC

    sums = score_field(forecasts, observed, REFC).sums
    return sums["crps_fair"] / sums["points"]


def properscoring_ensemble(forecasts: Field, observed: Field) -> float:
    from properscoring import crps_ensemble

    return float(np.mean(crps_ensemble(observed, forecasts, axis=0)))


def properscoring_last(forecasts: Field, observed: Field) -> float:
    """Compute the CRPS by properscoring with members last, its fastest layout, which `forecasts` have."""
    from properscoring import crps_ensemble

    return float(np.mean(crps_ensemble(observed, forecasts, axis=-1)))


def xskillscore_ensemble(forecasts: Field, observed: Field) -> float:
    import xarray as xr
    from xskillscore import crps_ensemble

    arrays = xr.DataArray(observed, dims=("y", "x")), xr.DataArray(forecasts, dims=("member", "y", "x"))
    return float(crps_ensemble(*arrays))


def scoringrules_fair(forecasts: Field, observed: Field) -> float:
    from scoringrules import crps_ensemble

    return float(np.mean(crps_ensemble(observed, forecasts, m_axis=0, estimator="pwm", backend="numba")))


def scores_fair(forecasts: Field, observed: Field) -> float:
    import xarray as xr
    from scores.probability import crps_for_ensemble

    arrays = xr.DataArray(forecasts, dims=("member", "y", "x")), xr.DataArray(observed, dims=("y", "x"))
    return float(crps_for_ensemble(*arrays, "member", method="fair"))


def reading(forecasts: Field, observed: Field) -> float:
    return float(forecasts.sum(dtype=np.float32) + observed.sum())


CONTENDERS: dict[str, Callable[[Field, Field], float]] = {
    "convcast, fair": convcast_fair,
    "convcast, all statistics": convcast_all,
    "properscoring, members last": properscoring_last,
    "properscoring, members first": properscoring_ensemble,
    "xskillscore": xskillscore_ensemble,
    "scoringrules, fair": scoringrules_fair,
    "scores, fair": scores_fair,
    "reading the array": reading,
}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(work: Callable[[Field, Field], float], data: tuple[Field, Field], repeats: int, pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    try:
        part = np.s_[:, :8] if work is properscoring_last else np.s_[..., :8]
        work(np.ascontiguousarray(data[0][part]), np.ascontiguousarray(data[1][:, :8]))
        before = peak()
        times = []
        for _ in range(repeats):
            started = time.process_time()
            value = work(*data)
            times.append(time.process_time() - started)
        pipe.send((min(times), peak() - before, value))
    except ImportError:
        pipe.send(None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    generator = np.random.default_rng(0)
    centre = generator.normal(5, 20, SHAPE).astype(np.float32)
    forecasts = np.empty((MEMBERS, *SHAPE), np.float32)
    for member in forecasts:
        np.maximum(centre + generator.normal(0, 8, SHAPE).astype(np.float32), -10, out=member)
    observed = np.maximum(centre + generator.normal(0, 8, SHAPE).astype(np.float32), -10)
    print("| | s of a processor | extra memory, MB | CRPS | of the fastest peer's time |\n|---|---|---|---|---|")
    context = multiprocessing.get_context("fork")
    found: dict[str, tuple[float, float, float]] = {}
    for name, work in CONTENDERS.items():
        last = work is properscoring_last
        data = (np.ascontiguousarray(np.moveaxis(forecasts, 0, -1)) if last else forecasts, observed)
        ours, theirs = context.Pipe()
        process = context.Process(target=measure, args=(work, data, repeats, theirs))
        process.start()
        theirs.close()
        result = ours.recv()
        process.join()
        if result is not None:
            found[name] = result
    peers = [s for name, (s, _, _) in found.items() if not name.startswith(("convcast", "reading"))]
    for name, (seconds, memory, value) in found.items():
        said = "" if name.startswith("reading") else f"{value:.5f}"
        print(f"| {name} | {seconds:.3f} | {memory:.0f} | {said} | {seconds / min(peers):.2f} |")
    print(f"\nthe first call in a new process, all imports and a warm cache: {first_call():.1f} s")


def first_call() -> float:
    code = (
        "import time; begun = time.perf_counter(); import numpy as np; "
        "from convcast.metrics.kernels import crps_points; "
        f"crps_points(np.ones(({MEMBERS}, 1000), np.float32), np.ones(1000, np.float32), 'fair'); "
        "print(time.perf_counter() - begun)"
    )
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
