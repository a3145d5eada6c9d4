"""Fixtures that all tests share."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

import convcast.grib  # noqa: F401  before anything that may import ecCodes by itself


def pytest_collection_finish():
    """Keep the garbage collector from scanning the imported modules, which live until the end."""
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real HRRR files beside a development checkout; they are not part of the repository."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "data" / "README.md").is_file():
            return parent / "shared" / "data"
    pytest.skip("no ../shared/data beside this checkout")


@pytest.fixture(name="short_spin_up")
def short_spin_up_of_a_test() -> Iterator[None]:
    """Start the simulated world two days before its era (spin_up.short_spin_up)."""
    from spin_up import short_spin_up  # most tests need no simulated world

    with short_spin_up():
        yield
