"""Compiled functions are kept where there is a folder for that, and run where there is none."""

import numba
import pytest

from convcast.metrics.compiled import compiled


def twice(number):
    return 2 * number


@pytest.mark.parametrize("writable", [True, False])
def test_an_installation_that_nobody_can_write_to(monkeypatch, tmp_path, writable):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    if not writable:
        (tmp_path / "cache").touch()  # no folder can be made there
        monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    assert compiled(twice)(21) == 42
    assert (tmp_path / "cache").is_dir() == writable
