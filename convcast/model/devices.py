"""The device and the floating-point precision of the computation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor

from convcast.errors import SettingsError
from convcast.settings import Precision

Made = TypeVar("Made")


def resolve(name: str = "auto") -> torch.device:
    """Return the torch device of this name.

    `auto` is a GPU where there is one (under torchrun the GPU of this process), and else the CPU.

    Raises:
        SettingsError: This machine has no such device.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises AssertionError if it was built without CUDA
        reason = str(error).splitlines()[0]
        raise SettingsError(f"there is no device {name!r} here ({reason})", advice="use --device cpu") from None
    return device


def resolve_precision(name: Precision, device: torch.device) -> Literal["bfloat16", "float32"]:
    """Return the precision of this name.

    `auto` is bfloat16 where the hardware supports it, and else float32: a processor without AVX-512 emulates bfloat16
    and takes ten times as long.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    quick = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return "bfloat16" if quick is not None and quick() else "float32"


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute on `count` CPU threads; float32 sums differ in the last bits with the number of threads.

    Threads that begin later take the number that was set last, so it is restored at the end.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy a CPU tensor to the device; a copy to a GPU is queued, and the caller does not wait for it."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


class SideQueue:
    """A queue of work that a GPU does at the same time as the network's; a CPU does the work immediately."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def put(self, work: Callable[[], Made]) -> tuple[Made, torch.cuda.Event | None]:
        """Queue the work; return its result, which may not be computed yet, and an event that tells when it is."""
        if self._stream is None:
            return work(), None
        with torch.cuda.stream(self._stream):
            return work(), self._stream.record_event()

    def let_wait(self, event: torch.cuda.Event | None, tensors: Iterable[Tensor]) -> None:
        """Make later work of the network wait for the event before it reads these tensors."""
        if event is None:
            return
        network = torch.cuda.current_stream(self._device)
        network.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(network)  # otherwise their memory could be reused while the network reads them


def use_tensor_cores() -> None:
    """Let float32 convolutions round their factors to TF32 (10 bits), several times as fast on a GPU.

    Matrix products stay float32: the regression and the covariances by scale take differences of large terms.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def convolutions_in(precision: Literal["float32", "TF32"]) -> Iterator[None]:
    """Compute float32 convolutions on a GPU in this precision within the context."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "TF32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
