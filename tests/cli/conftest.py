"""Fixture that runs a verb as the program does, with its streams and exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from convcast.cli.main import app


@pytest.fixture
def convcast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `convcast WORDS` in an empty folder with the workspace `w`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVCAST_WORKSPACE", "w")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return run
