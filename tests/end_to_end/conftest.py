"""Run the program as a user does: a process, its streams, its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ONE_THREAD = ("OMP_NUM_THREADS", "CONVCAST_TRAINING__THREADS", "CONVCAST_SAMPLING__THREADS")


@pytest.fixture(scope="session")
def convcast() -> Callable[..., dict[str, Any]]:
    """Run `convcast WORDS --json` in a workspace and give its JSON object; anything but exit code 0 fails the test."""

    def run(workspace: Path, *words: str) -> dict[str, Any]:
        finished = subprocess.run(
            [sys.executable, "-m", "convcast", *words, "--json", "-w", str(workspace)],
            capture_output=True,
            text=True,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "CONVCAST_TRAINING__THREADS": "1", "CONVCAST_SAMPLING__THREADS": "1"},
            check=False,
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        assert "Traceback" not in finished.stderr
        assert len(finished.stdout.splitlines()) == 1, "stdout is exactly one JSON object"
        result: dict[str, Any] = json.loads(finished.stdout)
        return result

    return run
