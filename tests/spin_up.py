"""A spin-up of the simulated world that is short enough for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod

import pytest

from convcast.archive.simulated.world import World


@contextmanager
def short_spin_up() -> Iterator[None]:
    """Start the simulated world two days before its era instead of 20, which suffices for most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "nature_run", partialmethod(World.nature_run, spin_up_hours=48))
        yield
