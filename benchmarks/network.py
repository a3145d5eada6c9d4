"""Measure the network of 32 M parameters beside diffusers: memory and time of a forward pass and a training step.

    python benchmarks/network.py [--threads 1] [--repeats 5] [--full-domain] [--accounted]

Each measurement of memory has a process of its own, since peaks do not fall. `--accounted` adds the
memory of the tensors of a training step, from their sizes and without computing them, for processors that emulate
bfloat16. The peer is
diffusers' UNet2DModel with the same widths, blocks and attention levels; both are given random weights and, as in
sampling, channels last in memory, and runs alternate. bfloat16 is measured where the processor computes in it, or
slowly, with `--precision bfloat16`, where it is emulated. `--full-domain` adds one forward pass over 1059 x 1799
points, tile by tile as sampling does it and in one piece. Estimates for GPUs follow from counted FLOPs and are labelled
estimates.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from convcast.ensemble import cover
from convcast.grid import CONUS
from convcast.model.devices import resolve_precision
from convcast.model.features.condition import channel_count
from convcast.model.network.network import Network
from convcast.settings import DEFAULT_EVALUATIONS
from convcast.settings.load import load_settings

FIELDS = 7
GPUS = {"RTX 4090": 165e12, "H100": 989e12}
"""Dense bfloat16 FLOP/s by the makers' data sheets."""
UTILISATION = 0.35
"""Assumed share of these that convolutional U-Nets of this size commonly reach."""


def ours() -> Network:
    settings = load_settings(preset="phase1").model
    return Network(FIELDS, channel_count(FIELDS, settings.history), settings)


def peer(inputs: int = FIELDS + channel_count(FIELDS, 4)) -> Any:
    """Make diffusers' U-Net of the same widths, blocks and attention levels, for `inputs` channels."""
    from diffusers import UNet2DModel

    blocks = ["DownBlock2D"] * 3 + ["AttnDownBlock2D"] * 2
    return UNet2DModel(
        in_channels=inputs,
        out_channels=FIELDS,
        block_out_channels=(64, 128, 192, 256, 256),
        layers_per_block=2,
        down_block_types=tuple(blocks),
        up_block_types=tuple(block.replace("Down", "Up") for block in reversed(blocks)),
        attention_head_dim=64,
    )


def forward_of_ours(side: int) -> Callable[[], object]:
    net = ours().eval().to(memory_format=torch.channels_last)
    encoded = net.encode(torch.randn(1, channel_count(FIELDS, 4), side, side), torch.zeros(1, 3), periodic=False)
    x, level = torch.randn(1, FIELDS, side, side), torch.full((1,), 0.5)
    return lambda: net(x, level, encoded, periodic=False)


def forward_of_peer(side: int) -> Callable[[], object]:
    net = peer().eval().to(memory_format=torch.channels_last)
    x = torch.randn(1, FIELDS + channel_count(FIELDS, 4), side, side)
    return lambda: net(x, 10)


def training_step(side: int, *, recompute: bool) -> Callable[[], object]:
    return learner(side, recompute=recompute)[2]


def learner(side: int, *, recompute: bool) -> tuple[Network, torch.optim.Optimizer, Callable[[], object]]:
    """Return a network, its optimiser, and a function that makes a step."""
    net = ours()
    net.recompute(recompute)
    optimiser = torch.optim.AdamW(net.parameters(), fused=True)
    condition, x = torch.randn(1, channel_count(FIELDS, 4), side, side), torch.randn(1, FIELDS, side, side)

    def step() -> None:
        encoded = net.encode(condition, torch.zeros(1, 3), periodic=False)
        loss = functional.mse_loss(net(x, torch.full((1,), 0.5), encoded, periodic=False), x)
        (loss + encoded.mean.square().mean() + encoded.scale.mean()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return net, optimiser, step


def accounted(side: int, *, recompute: bool, precision: str) -> float:
    """Return the GB of all tensors at the peak of a training step, with weights and optimiser, by their sizes alone."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    tracker = MemTracker()
    with FakeTensorMode():
        net, optimiser, step = learner(side, recompute=recompute)
        tracker.track_external(net, optimiser)
        with tracker, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            step()  # makes the optimiser's state
            tracker.reset_mod_stats()
            step()
    peak: int = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    return peak / 1e9


def full_domain(*, tiled: bool) -> Callable[[], object]:
    net = ours().eval()

    def forward(ny: int, nx: int) -> None:
        encoded = net.encode(torch.zeros(1, channel_count(FIELDS, 4), ny, nx), torch.zeros(1, 3), periodic=False)
        net(torch.zeros(1, FIELDS, ny, nx), torch.full((1,), 0.5), encoded, periodic=False)

    def run() -> None:
        places = cover(CONUS, tile=256, overlap=64).tiles if tiled else [(slice(0, CONUS.ny), slice(0, CONUS.nx))]
        for rows, columns in places:
            forward(rows.stop - rows.start, columns.stop - columns.start)

    return run


def convolution_peak() -> float:
    """Measure the FLOP/s of a 3 x 3 convolution of 128 channels."""
    layer = torch.nn.Conv2d(128, 128, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(4, 128, 64, 64).to(memory_format=torch.channels_last)
    flops = 2 * 9 * 128 * 128 * 4 * 64 * 64
    return flops / min(timed(lambda: layer(x)) for _ in range(10))


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def memory(what: str, threads: int, precision: str) -> tuple[float, float]:
    """Measure peak resident memory in GB, and seconds, in a separate process."""
    command = [sys.executable, __file__, "--alone", what, "--threads", str(threads), "--precision", precision]
    peak, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(peak), float(seconds)


ALONE: dict[str, Callable[[], Callable[[], object]]] = {
    "forward 256": lambda: forward_of_ours(256),
    "training step 32": lambda: training_step(32, recompute=False),
    "training step 64": lambda: training_step(64, recompute=False),
    "training step 128": lambda: training_step(128, recompute=False),
    "training step 256": lambda: training_step(256, recompute=False),
    "training step 256, recomputing": lambda: training_step(256, recompute=True),
    "full domain, 60 tiles": lambda: full_domain(tiled=True),
    "full domain, one piece": lambda: full_domain(tiled=False),
}


def alone(what: str, precision: str) -> None:
    learning = what.startswith("training")
    with torch.set_grad_enabled(learning), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        run = ALONE[what]()
        seconds = timed(run)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, seconds)


def compare(side: int, repeats: int) -> None:
    with torch.inference_mode():
        runs = {"convcast": forward_of_ours(side), "diffusers": forward_of_peer(side)}
        flops = {}
        for name, run in runs.items():
            with FlopCounterMode(display=False) as counter:
                run()
            flops[name] = counter.get_total_flops()
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats):
            for name, run in runs.items():
                times[name].append(timed(run))
    ratios = [a / b for a, b in zip(times["convcast"], times["diffusers"], strict=True)]
    peak = convolution_peak()
    for name in runs:
        best = min(times[name])
        share = flops[name] / best / peak
        print(f"{side}², {name}: {flops[name] / 1e9:.1f} GFLOP, {best:.3f} s, {share:.0%} of the convolution peak")
    print(f"{side}², convcast/diffusers: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def estimates() -> None:
    """Estimate a member and lead over CONUS with the default evaluations, with a forward pass of 256² for each tile."""
    with torch.inference_mode():
        run = forward_of_ours(64)  # which encodes the condition, once for all evaluations
        with FlopCounterMode(display=False) as counter:
            run()
    tiles = len(cover(CONUS, tile=256, overlap=64).tiles)
    flops = counter.get_total_flops() * 16 * tiles * DEFAULT_EVALUATIONS
    for name, rate in GPUS.items():
        seconds = flops / (rate * UTILISATION)
        print(
            f"ESTIMATE {name}: {flops / 1e12:.0f} TFLOP, {seconds:.1f} s a member and lead, {50 * seconds / 60:.1f}"
            f" min for 50 (at {UTILISATION:.0%} of {rate / 1e12:.0f} TFLOP/s)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--full-domain", action="store_true")
    parser.add_argument("--accounted", action="store_true")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    precision = resolve_precision(arguments.precision, torch.device("cpu"))
    if arguments.alone:
        alone(arguments.alone, precision)
        return
    print(f"{precision}, {arguments.threads} threads, torch {torch.__version__}")
    for name, net in (("convcast", ours()), ("diffusers", peer())):
        print(f"{name}: {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        for side in (64, 128):
            compare(side, arguments.repeats)
    wanted = [name for name in ALONE if arguments.full_domain or not name.startswith("full")]
    for name in wanted:
        peak, seconds = memory(name, arguments.threads, precision)
        print(f"{name}: {peak:.2f} GB peak resident memory, {seconds:.1f} s")
    if arguments.accounted:
        for kind in ("float32", "bfloat16"):
            for recompute in (False, True):
                peak = accounted(256, recompute=recompute, precision=kind)
                said = ", recomputing" * recompute
                print(f"training step 256{said}, {kind}: {peak:.2f} GB of tensors at the peak, accounted")
    estimates()


if __name__ == "__main__":
    main()
