"""Compiling of the inner loops, by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Compile this function when it is first called; without the global lock while it runs.

    What was compiled is kept for later runs, beside the source or in the user's cache. Where neither folder can be
    written to, as in a read-only image, each run compiles anew; a folder that others write to is never used.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba finds no folder, and says so when it decorates
        return numba.njit(nogil=True)(function)
