"""Fixtures that all tests share."""

from __future__ import annotations

import gc
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


@pytest.fixture
def short_spin_up(monkeypatch):
    """The simulated world begins three hours before its era, not weeks, and has as good a weather for most tests."""
    from convcast.archive.simulated.world import World

    whole = World.nature_run
    monkeypatch.setattr(World, "nature_run", lambda *words, **more: whole(*words, spin_up_hours=3, **more))
