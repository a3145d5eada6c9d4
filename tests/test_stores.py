"""convcast opens its own stores as Zarr format 3 only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import zarr

import convcast
from convcast import stores
from convcast.errors import DamagedFileError

FOREIGN = {"verification/data/gridded_files/files.py", "verification/data/ensembles.py"}
"""Where others' stores are opened, which may be of format 2."""


def test_a_store_of_format_2_is_not_ours(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    with pytest.raises(DamagedFileError, match="is not ours"):
        stores.open_group(tmp_path / "a.zarr", writing=False, complaint="it is not ours", advice="")


def test_every_store_is_opened_by_its_format():
    root, seen = Path(convcast.__file__).parent, 0
    for path in root.rglob("*.py"):
        if path.relative_to(root).as_posix() in FOREIGN:
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            called = ast.unparse(call.func)
            if called in ("zarr.open_group", "zarr.open", "xr.open_zarr") or called.endswith(".to_zarr"):
                seen += 1
                assert "zarr_format" in {keyword.arg for keyword in call.keywords}, f"{path}:{call.lineno}"
    assert seen > 5
