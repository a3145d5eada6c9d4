"""The processes that train together: those that torchrun started, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from convcast.model import devices

PATIENCE = timedelta(days=7)
"""Within which processes that share work of unequal parts must have met."""


def launched() -> tuple[int, int]:
    """Rank and number of processes, by what torchrun says in the environment; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Ranks:
    """Which of the processes that train together is this one."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether it is for this process to write and to report."""
        return self.rank == 0

    def agreed(self, value: float) -> float:
        """What the first rank has for this value: clocks differ, and all must stop at the same step."""
        if self.size == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(said, src=0)
        return float(said)

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on each of them."""
        if self.size == 1:
            return values
        total = values.to(self.device)
        distributed.all_reduce(total)
        return total.to(values.device)


def met(count: int) -> int:
    """The sum of what every process counted, once all have come so far.

    For processes that shared out their work beforehand and have not met yet. torchrun ends all when one dies.
    """
    rank, size = launched()
    if size == 1:
        return count
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        return int(Ranks(torch.device("cpu"), rank, size).summed(torch.tensor([count], dtype=torch.int64)))
    finally:
        distributed.destroy_process_group()


@contextmanager
def join() -> Iterator[Ranks]:
    """Meet the other processes, each with a GPU of its own where there are GPUs (NCCL), on the CPU elsewhere (gloo)."""
    rank, size = launched()
    if size == 1:
        yield Ranks(devices.resolve())
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(device, rank, size)
    finally:
        distributed.destroy_process_group()
