"""Where the arithmetic happens."""

from __future__ import annotations

import os
from typing import Literal

import torch

from convcast.errors import SettingsError
from convcast.settings import Precision


def resolve(name: str = "auto") -> torch.device:
    """The device of this name; `auto` is a GPU where there is one, of several that which torchrun gave this process.

    Raises SettingsError where this machine has no such device.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise SettingsError(f"there is no device {name!r} here ({reason})", advice="use --device cpu") from None
    return device


def resolve_precision(name: Precision, device: torch.device) -> Literal["bfloat16", "float32"]:
    """The precision of this name; `auto` is bfloat16 where the device computes in it, and float32 where it would only
    imitate it: a processor without AVX-512 takes ten times as long so.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    quick = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return "bfloat16" if quick is not None and quick() else "float32"
