"""Compile inner loops with numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call; it runs without the global interpreter lock.

    The compiled code is cached beside the source or in the user's cache folder. If neither can be written to, as in a
    read-only image, each run compiles again; a folder that others can write to is never used.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder, and says so when it decorates
        return numba.njit(nogil=True)(function)
