"""The division of the domain into tiles, and the number of members and tile conditions held in memory at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from convcast import stores
from convcast.ensemble.tiles import Tiling, cover
from convcast.errors import SettingsError
from convcast.grid import Grid
from convcast.model import Forecaster
from convcast.settings import SamplingSettings

TILE = 256
"""Default side of a tile, cells: the patch of the presets for HRRR."""
CPU_CELLS = 40960
"""Cells of one network call on the CPU: larger calls exceed the caches, smaller ones have too much overhead."""
CPU_GROUP = 10
"""Maximum number of members drawn together on a CPU."""
GPU_GROUP = 16
"""Maximum number of members drawn together on a GPU, which are enough to keep it busy."""
STATE_COPIES = 12
"""Copies of a member's state, including blending buffers, that a solver holds at once."""
WAITING_COPIES = 3
"""Copies of a member's fields or noise that wait in the machine's memory: drawn ahead, drawn, and being written."""
SHARE_OF_FREE = 0.8
"""Share of the free memory that is used where no limit is given; other programs' needs change while sampling runs."""
FLOAT_BYTES = 4
"""Bytes of a float32."""
GIGABYTE = 1e9
"""Bytes of a gigabyte."""


@dataclass(frozen=True)
class Plan:
    """The number of members and tile conditions held in memory at once."""

    members: int
    """Members drawn together."""
    cached_tiles: int
    """Tiles whose conditions stay in memory; those of the others are encoded again at each step."""


def block_size(tiling: Tiling) -> int:
    """Return n, the size of the fixed blocks of members (0 to n-1, n to 2n-1, …) that are drawn together on a CPU.

    Convolutions and matrix products differ in the last bits with the number of rows, and in float32 even with the
    position of a row (measured: oneDNN on two threads). A member is therefore always drawn in the same block, and n
    follows from the tile alone. Measured with 0.8 and 32 million parameters: calls of 10 x 64² and of 1 or 2 x 128²
    cells are fastest: 1.8 and 1.5 times as fast as 1 x 64² and 10 x 128².
    """
    ny, nx = tiling.tile_shape
    return min(CPU_GROUP, max(1, CPU_CELLS // (ny * nx)))


def plan(forecaster: Forecaster, tiling: Tiling, *, gigabytes: float | None, batch: int | None, rollout: bool) -> Plan:
    """Decide how many members and tile conditions fit into memory.

    Args:
        forecaster: The trained model, on its device.
        tiling: The tiles that cover the domain.
        gigabytes: Memory limit in GB, of the process on a CPU or of the GPU; by default most of the free memory.
        batch: Members drawn together on a GPU; by default as many as fit, up to GPU_GROUP.
        rollout: Whether each member has a history, and so a condition, of its own.

    Raises:
        SettingsError: Not even one tile fits.
    """
    on_cpu = forecaster.device.type == "cpu"
    used, room = _room(forecaster, gigabytes)
    ny, nx = tiling.tile_shape
    shared, each, condition = _needs(forecaster, tiling, rollout=rollout)

    def needed(members: int) -> float:
        return shared + members * each

    # A condition that is not in memory is encoded again at every step, which costs more than fewer members at once.
    others = 0 if rollout else (len(tiling.tiles) - 1) * condition
    reserved = shared + others if shared + others + each <= room else shared
    fitting = max(1, min(GPU_GROUP, int((room - reserved) / each)))
    members = block_size(tiling) if on_cpu else batch or fitting
    if needed(members) > room:
        raise SettingsError(
            f"sampling needs {(used + needed(members)) / GIGABYTE:.1f} GB for {members} member{'s' * (members > 1)} "
            f"at once on tiles of {ny} x {nx}, and may have {(used + room) / GIGABYTE:.1f} GB",
            advice=f"give more with --memory, or make tiles smaller with --set sampling.tile={max(ny, nx) // 2}",
        )
    spare = (room - needed(members)) / (condition * (members if rollout else 1))
    return Plan(members, min(len(tiling.tiles), 1 + int(spare)))


def choose_tiling(
    forecaster: Forecaster, grid: Grid, settings: SamplingSettings, *, stored: Sequence[Path] = ()
) -> Tiling:
    """Choose how the domain is divided into tiles.

    With `tile = "auto"` a GPU draws a domain in one piece where its memory has room for a member, since tiles cost
    twice the operations; else tiles have the size of training patches. A stored forecast keeps its division.

    Args:
        forecaster: The trained model, on its device.
        grid: The domain.
        settings: Tile, overlap and memory.
        stored: Forecast files of this initial time, in the order in which they are consulted.
    """
    if settings.tile != "auto":
        return cover(grid, tile=settings.tile, overlap=settings.overlap)
    tiles = cover(grid, tile=TILE, overlap=settings.overlap)
    whole = cover(grid, tile=max(grid.shape), overlap=settings.overlap)
    for path in stored:
        recorded = stores.stored_attribute(path, "tiles")
        if isinstance(recorded, str):
            return whole if recorded == str(whole) else tiles
    if tiles.whole or forecaster.device.type == "cpu":
        return tiles
    shared, each, _ = _needs(forecaster, whole, rollout=True)
    return whole if shared + each <= _room(forecaster, settings.memory)[1] else tiles


def _needs(forecaster: Forecaster, tiling: Tiling, *, rollout: bool) -> tuple[float, float, int]:
    """Return the bytes that all members share, those of each member, and those of a tile's condition."""
    ny, nx = tiling.tile_shape
    tile, domain = ny * nx, tiling.shape[0] * tiling.shape[1]
    fields = len(forecaster.variables)
    condition = forecaster.condition_bytes(tile)
    past = forecaster.settings.history * fields * domain * FLOAT_BYTES
    copies = STATE_COPIES + (WAITING_COPIES if forecaster.device.type == "cpu" else 0)
    each = copies * fields * domain * FLOAT_BYTES + forecaster.call_bytes(tile) + rollout * (past + condition)
    domain_condition = 4 * fields * domain * FLOAT_BYTES  # reference, scale and bounds
    return domain_condition + (0 if rollout else past + condition), each, condition


def _room(forecaster: Forecaster, gigabytes: float | None) -> tuple[float, float]:
    """Return the bytes that this process uses and those that it may use in addition."""
    used, free = _memory(forecaster.device)
    return used, SHARE_OF_FREE * free if gigabytes is None else gigabytes * GIGABYTE - used


def _memory(device: torch.device) -> tuple[float, float]:
    """Return the bytes that this process uses and the bytes that are free."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return torch.cuda.memory_allocated(device), free
    return psutil.Process().memory_info().rss, psutil.virtual_memory().available
