"""The processes that train or sample together: those that torchrun started, or a single one."""

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
"""Maximum time to wait for the other processes, whose parts of the work may be unequal."""


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of processes from torchrun's environment; (0, 1) without torchrun."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Distributed:
    """Rank and device of this process, and communication with the others that train."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    """Number of processes."""

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def broadcast(self, value: float) -> float:
        """Return the first process's value: clocks differ, and all processes must stop at the same step."""
        if self.world_size == 1:
            return value
        first = torch.tensor([value], dtype=torch.float64)  # over gloo, so that a GPU need not finish its work first
        dist.broadcast(first, src=0)
        return float(first)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on each of them."""
        if self.world_size == 1:
            return values
        total = values.to(self.device)
        dist.all_reduce(total)
        return total.to(values.device)


def sum_over_processes(count: int) -> int:
    """Wait for all processes and return the sum of their counts.

    This is for processes that have not formed a process group. torchrun ends all of them when one dies.
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
    """Join the other processes, each on its own GPU where there are GPUs (NCCL), and else on the CPU (gloo)."""
    rank, world_size = rank_and_world_size()
    if world_size == 1:
        yield Distributed(devices.resolve())
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Distributed(device, rank, world_size)
    finally:
        dist.destroy_process_group()
