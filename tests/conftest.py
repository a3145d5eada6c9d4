"""Fixtures that all tests share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partialmethod
from pathlib import Path

import pytest

import convcast.grib  # noqa: F401  before anything that may import ecCodes by itself


def pytest_collection_finish():
    """The garbage collector skips the imported modules, which live until the end."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real HRRR files, which lie beside a development checkout and are not part of the repository."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "data" / "README.md").is_file():
            return parent / "shared" / "data"
    pytest.skip("no ../shared/data beside this checkout")


@contextmanager
def spun_up_quickly() -> Iterator[None]:
    """The simulated world begins two days before its era, not weeks, and has as good a weather for most tests."""
    from convcast.archive.simulated.world import World

    quick = partialmethod(World.nature_run, spin_up_hours=48)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "nature_run", quick)
        yield


@pytest.fixture(scope="session", name="spun_up_quickly")
def spun_up_quickly_within_blocks() -> Callable[[], AbstractContextManager[None]]:
    return spun_up_quickly


@pytest.fixture
def short_spin_up() -> Iterator[None]:
    with spun_up_quickly():
        yield
