"""The processes that train together: those that torchrun started, or this one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from convcast.model import devices

TIMEOUT = timedelta(days=7)
"""Within which processes that share work of unequal parts must have met."""


def rank_and_world_size() -> tuple[int, int]:
    """Rank and number of processes, by what torchrun says in the environment; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Distributed:
    """Which of the processes that train together is this one."""

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether it is for this process to write and to report."""
        return self.rank == 0

    def broadcast(self, value: float) -> float:
        """What the first rank has for this value: clocks differ, and all must stop at the same step."""
        if self.world_size == 1:
            return value
        first = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(first, src=0)
        return float(first)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on each of them."""
        if self.world_size == 1:
            return values
        total = values.to(self.device)
        dist.all_reduce(total)
        return total.to(values.device)


def sum_over_processes(count: int) -> int:
    """The sum of what every process counted, once all have come so far.

    For processes that shared out their work beforehand and have not met yet. torchrun ends all when one dies.
    """
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        return count
    dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        return int(Distributed(torch.device("cpu"), rank, world_size).sum(torch.tensor([count], dtype=torch.int64)))
    finally:
        dist.destroy_process_group()


@contextmanager
def process_group() -> Iterator[Distributed]:
    """Meet the other processes, each with a GPU of its own where there are GPUs (NCCL), on the CPU elsewhere (gloo)."""
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        yield Distributed(devices.resolve())
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(device, rank, world_size)
    finally:
        dist.destroy_process_group()
