"""Training of one network by many processes, each with the whole network (DDP) or a shard of every layer (FSDP2).

Checkpoints are the same files either way, so a training can resume with any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from convcast.model.distributed import Distributed
from convcast.model.network.network import UNet
from convcast.model.training.objective import Objective


def parallel(objective: Objective, distributed: Distributed, *, shard: bool) -> nn.Module:
    """Wrap the objective so that gradients are averaged over all processes.

    Args:
        objective: The objective, on the device of this process.
        distributed: The processes that train together.
        shard: Whether each process has a shard of every layer, instead of the whole network.
    """
    if distributed.world_size == 1:
        return objective
    if not shard:
        devices = [distributed.device] if distributed.device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=devices, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(distributed.device.type, (distributed.world_size,))
    for unet in (objective.network.encoder, objective.network.denoiser):
        assert isinstance(unet, UNet)
        for part in (*unet.down, *unet.middle, *unet.up):
            fully_shard(part, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


@contextmanager
def defer_gradient_exchange(module: nn.Module, *, until_later: bool) -> Iterator[None]:
    """Exchange gradients only after the last batch of an accumulation."""
    if isinstance(module, DistributedDataParallel) and until_later:
        with module.no_sync():
            yield
        return
    exchange = getattr(module, "set_requires_gradient_sync", None)
    if exchange is not None:
        exchange(not until_later)
    yield


def whole(value: Tensor) -> Tensor:
    """Gather a tensor of which this process may hold a shard; every process must call it."""
    gathered: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return gathered


def sharded_like(value: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor as `like` is sharded."""
    if not hasattr(like, "full_tensor"):
        # The fused optimiser on a GPU needs its moments in the memory layout of the weights.
        return torch.empty_like(like).copy_(value) if value.shape == like.shape else value.to(like.device)
    value = value.to(like.device)
    from torch.distributed.tensor import DTensor, distribute_tensor  # a single process does not need it

    if isinstance(like, DTensor) and value.shape == like.shape:
        return distribute_tensor(value, like.device_mesh, like.placements)
    return value


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copy `value` into `target`; raises RuntimeError if the shapes differ."""
    if target.shape != value.shape:
        raise RuntimeError(f"{tuple(value.shape)} in place of {tuple(target.shape)}")
    target.copy_(sharded_like(value, target))
