"""Fake GPU tensors, on a machine without a GPU: they have shapes, types, layouts and devices, but no values.

torch's FakeTensorMode runs each operation's own rules, those of CUDA's autocast included, and autograd records what it
keeps. A build without CUDA lacks a device guard, which this takes from the meta device, and cannot run a backward pass.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)
_SLOTS = {"cuda": 1, "meta": 14}
"""Numbers of the devices in c10/core/DeviceType.h."""


@contextmanager
def fake_cuda() -> Iterator[None]:
    with ExitStack() as stack:
        if not torch.cuda.is_available():
            stack.enter_context(_guard())
            absent = "torch.cuda.amp.common.amp_definitely_not_available"
            stack.enter_context(mock.patch(absent, return_value=False))
            stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", return_value=True))
        stack.enter_context(mock.patch.object(nn.Module, "to", moved))
        stack.enter_context(FakeTensorMode())
        yield


@contextmanager
def _guard() -> Iterator[None]:
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    registry = (ctypes.c_void_p * 16).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before = registry[_SLOTS["cuda"]]
    registry[_SLOTS["cuda"]] = registry[_SLOTS["meta"]]
    try:
        yield
    finally:
        registry[_SLOTS["cuda"]] = before


class NoWaiting(TorchDispatchMode):
    """Refuses copies between CPU and GPU for which the CPU waits; fake tensors already refuse to be read as numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [value for value in tree_leaves((args, kwargs, out)) if isinstance(value, Tensor) and value.ndim > 0]
        if {value.device.type for value in tensors} == {"cpu", "cuda"}:
            queued = func is torch.ops.aten._to_copy.default and (kwargs or {}).get("non_blocking")
            if not queued or out.device != CUDA:
                raise AssertionError(f"{func} waits for the GPU")
        return out


@contextmanager
def pinned() -> Iterator[None]:
    """Let CPU tensors be pinned within `fake_cuda`: their copies are fake."""

    def pin(values: Tensor) -> Tensor:
        mode = active_fake_mode()
        assert mode is not None
        return values if isinstance(values, FakeTensor) else mode.from_tensor(values)

    with mock.patch.object(Tensor, "pin_memory", pin):
        yield


def moved(module: nn.Module, *arguments: object, **options: object) -> nn.Module:
    """Replace nn.Module.to, which does not accept weights without values."""
    device, dtype, _, layout = torch._C._nn._parse_to(*arguments, **options)
    for part in module.modules():
        for values in (part._parameters, part._buffers):
            for name, old in list(values.items()):
                if old is None:
                    continue
                to = old.device if device is None else device
                new = torch.empty(old.shape, dtype=old.dtype if dtype is None else dtype, device=to)
                new = new.contiguous(memory_format=layout) if layout is not None and new.ndim == 4 else new
                trained = isinstance(old, nn.Parameter)
                values[name] = nn.Parameter(new, requires_grad=old.requires_grad) if trained else new
    return module


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Collects the tensors that autograd saves for the backward pass."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        super().__init__(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: Tensor) -> Tensor:
        self.tensors.append(tensor)
        return tensor

    def bytes_by_dtype(self, module: nn.Module) -> dict[torch.dtype, int]:
        """Return the bytes of the storages by type, each counted once, without the module's weights."""
        weights = {values.untyped_storage()._cdata for values in (*module.parameters(), *module.buffers())}
        storages = {tensor.untyped_storage()._cdata: tensor for tensor in self.tensors}
        total: dict[torch.dtype, int] = {}
        for key, tensor in storages.items():
            if key not in weights:
                total[tensor.dtype] = total.get(tensor.dtype, 0) + tensor.untyped_storage().nbytes()
        return total
