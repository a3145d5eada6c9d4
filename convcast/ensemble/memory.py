"""How much is done at once, so that sampling stays within the memory at hand."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from convcast.ensemble.tiles import Tiling
from convcast.errors import SettingsError
from convcast.model import Forecaster

CPU_CELLS = 40960
"""Cells of one network call on the CPU: larger calls leave the caches, smaller ones waste time between layers."""
CPU_GROUP = 10
GPU_GROUP = 16
"""Members drawn together on a GPU with room for them: by then its multiprocessors are busy."""
STATE_COPIES = 10
"""Copies of a member's state, and of what it is blended from, that a solver needs at once."""
SHARE_OF_FREE = 0.8
"""Of the free memory that is taken where no limit is given: others' needs change while sampling runs."""
FLOAT_BYTES = 4
GIGABYTE = 1e9


@dataclass(frozen=True)
class Plan:
    """What is in memory at once."""

    members: int
    """Drawn together."""
    cached_tiles: int
    """Tiles whose conditions stay, others' being encoded again at each step."""


def block_size(tiling: Tiling) -> int:
    """How many members are drawn together on a CPU, always the same ones: 0 to n-1, n to 2n-1, …

    Convolutions and products of matrices differ in the last bits with the number of rows, in float32 even with a row's
    place among them (measured: oneDNN on two threads). Drawing a member in one fixed block, whichever of the block are
    wanted, leaves nothing to differ. So on the CPU the size follows from the tile alone. Measured there, with 0.8 and
    32 million parameters: 10 x 64² and 1 or 2 x 128² cells a call are best, 1.8 and 1.5 times as fast as 1 and 10.
    """
    ny, nx = tiling.tile_shape
    return min(CPU_GROUP, max(1, CPU_CELLS // (ny * nx)))


def plan(forecaster: Forecaster, tiling: Tiling, *, gigabytes: float | None, batch: int | None, rollout: bool) -> Plan:
    """What fits into so many GB (of the process on a CPU, of the GPU else), or into most of what is free.

    `rollout` says that members have pasts, and thus conditions, of their own.

    Raises SettingsError where not even one tile fits.
    """
    on_cpu = forecaster.device.type == "cpu"
    used, free = _memory(forecaster.device)
    room = SHARE_OF_FREE * free if gigabytes is None else gigabytes * GIGABYTE - used
    ny, nx = tiling.tile_shape
    tile, domain = ny * nx, tiling.shape[0] * tiling.shape[1]
    fields = len(forecaster.variables)
    condition = forecaster.condition_bytes(tile)
    past = forecaster.settings.history * fields * domain * FLOAT_BYTES
    each = STATE_COPIES * fields * domain * FLOAT_BYTES + forecaster.call_bytes(tile) + rollout * (past + condition)
    shared = fields * domain * FLOAT_BYTES + (0 if rollout else past + condition)

    def needed(members: int) -> float:
        return shared + members * each

    fitting = max(1, min(GPU_GROUP, int((room - shared) / each)))
    members = block_size(tiling) if on_cpu else batch or fitting
    if needed(members) > room:
        raise SettingsError(
            f"sampling needs {(used + needed(members)) / GIGABYTE:.1f} GB for {members} member{'s' * (members > 1)} "
            f"at once on tiles of {ny} x {nx}, and may have {(used + room) / GIGABYTE:.1f} GB",
            advice=f"give more with --memory, or make tiles smaller with --set sampling.tile={max(ny, nx) // 2}",
        )
    spare = (room - needed(members)) / (condition * (members if rollout else 1))
    return Plan(members, min(len(tiling.tiles), 1 + int(spare)))


def _memory(device: torch.device) -> tuple[float, float]:
    """Bytes that this process uses, and bytes that are free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_allocated(device), free
    return psutil.Process().memory_info().rss, psutil.virtual_memory().available
