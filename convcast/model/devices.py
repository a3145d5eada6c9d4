"""Where the arithmetic happens."""

from __future__ import annotations

import torch

from convcast.errors import SettingsError


def resolve(name: str = "auto") -> torch.device:
    """The device of this name; `auto` is the GPU where there is one.

    Raises SettingsError where this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).splitlines()[0]
        raise SettingsError(f"there is no device {name!r} here ({reason})", advice="use --device cpu") from None
    return device
