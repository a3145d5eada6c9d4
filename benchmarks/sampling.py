"""Measure sampling: seconds for each member and step, the network's share of them, and memory on the whole domain.

    python benchmarks/sampling.py [--threads 1] [--sides 64,128,256,512] [--full-domain] [--host]

The model is that of phase 1 with random weights, on hours of made-up weather. The peer is diffusers' DDIM pipeline
around a UNet2DModel of the same widths, blocks and attention levels, in the same run. `--full-domain` draws one member
over 1059 x 1799 points in two steps, in a process of its own, and extrapolates. Estimates for GPUs are made from the
counted FLOPs by benchmarks/network.py. `--host` times what the CPU does for a member over the whole domain, beside the
network of a GPU: its noise, its files, and in a rollout its motion and windows. Times of a processor, since they may
share it with the GPU's driver.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import FIELDS, ours, peer
from scipy.ndimage import gaussian_filter

import convcast.grib  # noqa: F401
from convcast.conventions import on_lattice
from convcast.dataset import Dataset, HourStatus, domain_motion, sun_of, window
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.normal_scores import LEVELS
from convcast.dataset.store import Store
from convcast.ensemble import cover, member_noise, sample
from convcast.ensemble.background import NoiseAhead
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import CONUS, SPACING, Grid
from convcast.model import Forecaster, ModelDescription
from convcast.model.devices import resolve_precision
from convcast.model.diffusion.spectrum import Spectrum
from convcast.model.features.correction import Correction
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.regression import Regression
from convcast.model.features.residual import Residuals
from convcast.model.features.spread import feature_count
from convcast.notation import HOUR
from convcast.settings import DEFAULT_EVALUATIONS, SamplingSettings
from convcast.settings.load import load_settings
from convcast.variables import FIELDS as ROWS, STATIC, Variable

START = np.datetime64("2024-05-06T00", "h")
HISTORY = 4


def weather(path: Path, grid: Grid) -> Dataset:
    """Make a dataset of hours of smooth made-up weather, all ok."""
    variables = tuple(ROWS.values())
    store = Store.create(
        path, DatasetDescription(variables, grid, False, 0), np.zeros((len(STATIC), *grid.shape), np.float32)
    )
    y, x = np.mgrid[: grid.ny, : grid.nx]
    times = START + np.arange(HISTORY) * HOUR
    middle = np.array([20, 290, 285, 1, 1, 1000, -50], np.float32)[:, None, None]
    for k, valid in enumerate(times):
        store.write_hour(valid, (middle + 2 * np.sin((x + y + k) / 20)).astype(np.float32))
    store.write_status(times, HourStatus.OK, [{"valid": str(time)} for time in times])
    return Dataset.open(path)


def untrained(precision: str) -> Forecaster:
    """Return the phase 1 model with random weights."""
    settings = load_settings(preset="phase1").model
    variables = tuple(ROWS.values())
    count = len(variables)
    normalisation = Normalisation(
        variables,
        np.zeros(count),
        np.full(count, 100.0),
        np.tile(np.linspace(0, 60, len(LEVELS)), (count, 1)),
        np.zeros(len(STATIC)),
        np.ones(len(STATIC)),
    )
    floors = sum(variable.floor is not None for variable in variables)
    spread = np.zeros((count, feature_count(settings.history, floors)))
    spread[:, 0] = 1
    fitted = Regression({}), Correction({}), {(1, None): spread}, {(1, None): Spectrum.white(count)}
    residuals = Residuals(normalisation, ("persistence",) * count, *fitted)
    description = ModelDescription(
        model=settings,
        variables=variables,
        residuals=residuals,
        grid=CONUS,
        spacing=SPACING,
        simulated=False,
        analysis_lead=0,
        training_hours=(START, START),
        split={},
        settings={},
        settings_digest="",
    )
    return Forecaster(description, ours(), "0" * 64, precision=precision)  # type: ignore[arg-type]


def seconds(
    forecaster: Forecaster, dataset: Dataset, path: Path, *, members: int, steps: int, threads: int, tile: int
) -> tuple[float, float]:
    """Return the seconds of drawing members, from the dataset to the disk: in all, and within the network."""
    inside = 0.0
    predict = forecaster.predict_noise

    def timed(*words: Any, **options: Any) -> torch.Tensor:
        nonlocal inside
        started = time.perf_counter()
        answer = predict(*words, **options)
        inside += time.perf_counter() - started
        return answer

    forecaster.predict_noise = timed  # type: ignore[method-assign]
    settings = SamplingSettings(steps=steps, threads=threads, tile=tile)
    started = time.perf_counter()
    init = START + (HISTORY - 1) * HOUR
    for _ in sample(forecaster, dataset, path, init=init, members=range(members), leads=(1,), settings=settings):
        pass
    forecaster.predict_noise = predict  # type: ignore[method-assign]
    return time.perf_counter() - started, inside


def of_peer(side: int, steps: int, precision: str) -> float:
    """Return the seconds that diffusers' DDIM pipeline takes for one sample without a condition."""
    from diffusers import DDIMPipeline, DDIMScheduler

    network = peer(FIELDS).to(memory_format=torch.channels_last)
    network.register_to_config(sample_size=side)
    pipeline = DDIMPipeline(unet=network, scheduler=DDIMScheduler(num_train_timesteps=200))
    pipeline.set_progress_bar_config(disable=True)
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        pipeline(batch_size=1, num_inference_steps=steps, output_type="np")
    return time.perf_counter() - started


def table(sides: list[int], threads: int, repeats: int, precisions: list[str]) -> None:
    print("| domain | precision | s per member and step | diffusers | network's share |")
    print("|---|---|---|---|---|")
    for side in sides:
        for precision in precisions:
            forecaster, rows = untrained(precision), []
            for _ in range(repeats):
                with tempfile.TemporaryDirectory() as scratch:
                    dataset = weather(Path(scratch) / "d.zarr", Grid(side, side, 200, 700))
                    path = Path(scratch) / "f.zarr"
                    members = max(1, min(10, 40960 // side**2))
                    took, inside = seconds(
                        forecaster, dataset, path, members=members, steps=5, threads=threads, tile=max(256, side)
                    )
                    rows.append((took / members / 5, of_peer(side, 5, precision) / 5, inside / took))
            ours_, theirs, share = (float(np.median(column)) for column in zip(*rows, strict=True))
            print(f"| {side} x {side} | {precision} | {ours_:.3f} | {theirs:.3f} | {share:.1%} |", flush=True)


def linear(threads: int) -> None:
    """Print time against members and steps, at 64 x 64."""
    forecaster = untrained("float32")
    print("| members | steps | s | s per member and step |\n|---|---|---|---|")
    for members, steps in ((10, 5), (20, 5), (40, 5), (10, 10), (10, 20)):
        with tempfile.TemporaryDirectory() as scratch:
            dataset = weather(Path(scratch) / "d.zarr", Grid(64, 64, 200, 700))
            took, _ = seconds(
                forecaster, dataset, Path(scratch) / "f.zarr", members=members, steps=steps, threads=threads, tile=256
            )
        print(f"| {members} | {steps} | {took:.1f} | {took / members / steps:.3f} |", flush=True)


def full_domain(threads: int, gigabytes: float) -> None:
    """Draw one member over CONUS in this process, and print the peak of its memory."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        # Made by another process, whose memory does not count here.
        subprocess.run([sys.executable, __file__, "--make", str(root / "d.zarr")], check=True)
        dataset = Dataset.open(root / "d.zarr")
        forecaster = untrained("float32")
        settings = SamplingSettings(steps=2, threads=threads, memory=gigabytes)
        started = time.perf_counter()
        init = START + (HISTORY - 1) * HOUR
        list(sample(forecaster, dataset, root / "f.zarr", init=init, members=(0,), leads=(1,), settings=settings))
        took = time.perf_counter() - started
    tiles = len(cover(CONUS, tile=settings.tile, overlap=settings.overlap).tiles)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"1059 x 1799, {tiles} tiles, --memory {gigabytes:g}: peak RSS {peak:.2f} GB, {took:.0f} s for 2 steps")
    hours = took / 2 * DEFAULT_EVALUATIONS / 3600
    print(f"so about {hours:.1f} h for one member in {DEFAULT_EVALUATIONS} steps on {threads} thread(s): use a GPU")


def host(repeats: int) -> None:
    """Measure the CPU's work for a member over CONUS, in CPU seconds and in seconds."""
    generator = np.random.default_rng(0)
    smooth = gaussian_filter(generator.standard_normal(CONUS.shape), 8)
    smooth = smooth / smooth.std()
    variables = tuple(ROWS.values())
    members = np.stack([_weather_like(variable, smooth, generator) for variable in variables])
    shape = len(variables), *CONUS.shape
    init = START + (HISTORY - 1) * HOUR
    numbers = range(4)

    def noise(member: int, step: int) -> np.ndarray:
        return member_noise(0, init, member, 1, shape, step=step)

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        store = EnsembleStore.prepare(
            root / "f.zarr", ForecastDescription(init, (1,), (1,), variables, CONUS, {}, {}), members=50
        )
        dataset = weather(root / "d.zarr", CONUS)
        past = np.stack([members] * HISTORY)
        for hour in range(HISTORY):
            past[hour] = np.roll(members, (2 * hour, 5 * hour), (1, 2))
        tiles = cover(CONUS, tile=256, overlap=64).tiles
        motion = domain_motion(dataset, init, past=past)
        suns = [sun_of(CONUS.crop(*tile), init, 1) for tile in tiles]
        ahead, written = NoiseAhead(1), iter(range(50))

        def joined() -> None:
            ahead.take(noise, numbers, 1, 0)

        def windows() -> None:
            for (rows, columns), sun in zip(tiles, suns, strict=True):
                window(dataset, init, 1, rows=rows, columns=columns, past=past, motion=motion, sun=sun)

        def newest() -> None:
            rounded = np.stack([on_lattice(variable, members[i]) for i, variable in enumerate(variables)])
            np.concatenate([past[1:], rounded[None]])

        work: dict[str, tuple[Callable[[], object], float]] = {
            "noise, on threads, ahead": (lambda: noise(0, 0), 1),
            "noise of members joined": (joined, len(numbers)),
            "a copy of as many numbers in memory": (lambda: torch.from_numpy(members).clone(), 1),
            "writing: rounding, compression, checksums, sync": (lambda: store.write(next(written), 1, members), 1),
            "in a rollout: motion, on threads": (lambda: domain_motion(dataset, init, past=past), 1),
            "in a rollout: windows of 60 tiles": (windows, 1),
            "in a rollout: the newest hour joins the history": (newest, 1),
        }
        print("| a member over CONUS | s of a processor | s |\n|---|---|---|")
        for name, (run, count) in work.items():
            spent = []
            for _ in range(repeats):
                if run is joined:  # drawn before, as members are
                    ahead.expect(noise, numbers, 1)
                    wait(ahead._coming[tuple(numbers), 1, 0])
                cpu, wall = time.process_time(), time.perf_counter()
                run()
                spent.append(((time.process_time() - cpu) / count, (time.perf_counter() - wall) / count))
            cpu, wall = np.median(spent, axis=0)
            print(f"| {name} | {cpu:.3f} | {wall:.3f} |", flush=True)
        ahead.close()


def _weather_like(variable: Variable, smooth: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Make a field that compresses like a member's: smooth, with noise of some lattice steps, and its floor in half."""
    low, high = variable.display
    values = (low + high) / 2 + (high - low) / 8 * smooth + generator.normal(0, 4 / variable.scale, smooth.shape)
    if variable.floor is not None:
        values = np.where(smooth > 0, values, variable.floor.none)
    return np.clip(values, *variable.bounds).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", default="64,128,256,512")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precisions", help="float32,bfloat16 (default: those in which this processor computes)")
    parser.add_argument("--full-domain", action="store_true")
    parser.add_argument("--host", action="store_true", help="what the CPU does for a member over the whole domain")
    parser.add_argument("--memory", type=float, default=6.0, help="GB, of --full-domain")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.make:
        weather(arguments.make, CONUS)
    elif arguments.host:
        host(arguments.repeats)
    elif arguments.full_domain:
        full_domain(arguments.threads, arguments.memory)
    else:
        own = resolve_precision("auto", torch.device("cpu"))
        precisions = arguments.precisions.split(",") if arguments.precisions else sorted({"float32", own}, reverse=True)
        table([int(side) for side in arguments.sides.split(",")], arguments.threads, arguments.repeats, precisions)
        if not arguments.precisions:
            linear(arguments.threads)


if __name__ == "__main__":
    main()
