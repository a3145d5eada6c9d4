"""Compilation of the network by torch.compile, which fuses the operations between convolutions."""

from __future__ import annotations

import os
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import torch

from convcast.errors import SettingsError
from convcast.model.network.network import Network
from convcast.settings import CompileChoice

OLDEST = (7, 0)
"""Lowest compute capability of GPUs for which Triton compiles."""


def compile_network(
    network: Network, choice: CompileChoice, device: torch.device, *, backend: str = "inductor"
) -> bool:
    """Compile encoder and denoiser where `choice` wants it, and return whether it was done.

    `auto` compiles on a GPU where nothing prevents it (`missed` says what does). On a CPU the first step would take
    minutes longer. The names of the weights stay the same.

    Args:
        network: The network, which is changed in place.
        choice: `auto`, `on` or `off` (`training.compile`).
        device: Where the network is.
        backend: Backend of torch.compile. Whether the machine can compile is checked for `inductor` alone.

    Raises:
        SettingsError: `choice` is `on`, and the network cannot be compiled on this machine.
    """
    if choice == "off" or (choice == "auto" and device.type != "cuda"):
        return False
    reason = obstacle(device) if backend == "inductor" else None
    if reason is not None:
        if choice == "auto":
            return False
        raise SettingsError(
            f"the network cannot be compiled: {reason}",
            advice="run `convcast train --set training.compile=auto`, which compiles where it can",
        )
    for part in (network.encoder, network.denoiser):
        part.compile(backend=backend, dynamic=False)
    return True


def missed(choice: CompileChoice, device: torch.device) -> str | None:
    """Return why `auto` cannot compile on a GPU, where it would be faster; None if it can, or should not."""
    return obstacle(device) if choice == "auto" and device.type == "cuda" else None


def obstacle(device: torch.device) -> str | None:
    """Return why torch.compile does not work on the device, or None."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            return "the package triton is not installed"
        major, minor = torch.cuda.get_device_capability(device)
        if (major, minor) < OLDEST:
            return f"the GPU has compute capability {major}.{minor}, and Triton needs {OLDEST[0]}.{OLDEST[1]}"
        if not (os.environ.get("CC") or any(map(shutil.which, ("cc", "gcc", "clang")))):
            return "there is no C compiler, by which Triton starts its kernels"
        if not Path(sysconfig.get_paths()["include"], "Python.h").is_file():
            return "Python's C headers, which Triton compiles against, are not installed (python3-dev)"
    elif not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "there is no C++ compiler"
    return None
