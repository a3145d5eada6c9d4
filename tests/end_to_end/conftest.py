"""Run the verbs one after the other, each by its command line, in this process: imports are done once.

Some stages of a cycle are processes of their own in test_cycle.py, a verb of a hindcast in test_simulated.py, and each
run of tests/cli/common/test_process.py. Reports are drawn in test_cycle.py and tests/verification.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import Result
from filelock import FileLock
from spin_up import short_spin_up
from typer.testing import CliRunner
from unpainted import nothing_drawn

from convcast.cli.common import chain
from convcast.cli.main import app
from convcast.operations import stages
from convcast.operations.stages import PROGRAM, ProcessResult

Said = dict[str, dict[str, Any]]
ONE_THREAD = {"CONVCAST_TRAINING__THREADS": "1", "CONVCAST_SAMPLING__THREADS": "1"}


@pytest.fixture(scope="session")
def command_line() -> Callable[..., Result]:
    """Run `convcast WORDS` in a workspace; the world spins up in two days, and a correction is fitted in two steps."""

    def run(workspace: Path, *words: str) -> Result:
        try:
            with short_spin_up(), pytest.MonkeyPatch.context() as patch:
                patch.setattr("convcast.model.features.correction.MAX_STEPS", 2)
                return CliRunner().invoke(app, [*words, "-w", str(workspace)], env=ONE_THREAD)
        finally:
            torch.set_flush_denormal(False)  # as training sets it for its process

    return run


@pytest.fixture(scope="session")
def convcast(command_line) -> Callable[..., dict[str, Any]]:
    """Run `convcast WORDS --json` in a workspace and give its JSON object; anything but exit code 0 fails the test."""

    def run(workspace: Path, *words: str) -> dict[str, Any]:
        finished = command_line(workspace, *words, "--json")
        assert finished.exit_code == 0, (finished.exception, finished.stderr[-3000:])
        assert "Traceback" not in finished.stderr
        assert len(finished.stdout.splitlines()) == 1, "stdout is exactly one JSON object"
        result: dict[str, Any] = json.loads(finished.stdout)
        return result

    return run


@pytest.fixture(scope="session")
def in_one_process(command_line) -> Callable[..., Result]:
    """Run `convcast WORDS` in a workspace, and in this process also a cycle's stages and a hindcast's verbs.

    The verbs in `processes` are processes of their own, as all are outside these tests.
    """
    started = stages.run

    def invoked(words: Sequence[str]) -> Result:
        finished = CliRunner().invoke(app, list(words))
        if finished.exception and not isinstance(finished.exception, SystemExit):
            raise finished.exception
        return finished

    def stage(words: list[str], processes: Collection[str], **limits: float) -> ProcessResult:
        if words[0] in processes:
            return started(words, **limits)
        finished = invoked(words)
        printed = finished.stdout.splitlines()
        return ProcessResult(finished.exit_code, 0.1, json.loads(printed[-1]) if printed else {}, finished.stderr)

    def chained(command: Sequence[str], processes: Collection[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        words = command[len(PROGRAM) :]
        if words[0] in processes:
            return subprocess.run(command, capture_output=True, check=False)
        return subprocess.CompletedProcess(command, invoked(words).exit_code)

    def run(workspace: Path, *words: str, processes: Collection[str] = ()) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "run", partial(stage, processes=processes))
            patch.setattr(chain, "subprocess", SimpleNamespace(run=partial(chained, processes=processes)))
            finished = command_line(workspace, *words)
        assert finished.exit_code == 0, (finished.exception, finished.stderr[-3000:])
        return finished

    return run


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id) -> Callable[[str, Callable[[Path], Said]], tuple[Path, Said]]:
    """A workspace that the first process to ask for it makes, and what was said; each process has a copy of its own."""
    own = tmp_path_factory.getbasetemp()
    common = own if worker_id == "master" else own.parent

    def make(name: str, build: Callable[[Path], Said]) -> tuple[Path, Said]:
        root, said = common / f"made-{name}", common / f"made-{name}.json"
        with FileLock(f"{root}.lock"):
            if not said.exists():
                said.write_text(json.dumps(build(root)))
        copy = own / name
        if not copy.exists():
            shutil.copytree(root, copy)
        return copy, json.loads(said.read_text())

    return make


@pytest.fixture(scope="session")
def five_verbs(made_once, convcast) -> tuple[Path, Said]:
    """A simulated workspace in which the five verbs have run, with what each of them said."""

    def build(root: Path) -> Said:
        small = ["--set", "simulation.start=2024-05-10T00", "--set", "simulation.days=3", "--set", "simulation.size=32"]
        said = {}
        said["fetch"] = convcast(root, "fetch", "--source", "simulated", "--days", "3", "--preset", "demo", *small)
        said["preprocess"] = convcast(root, "preprocess")
        split = ["--set", "split.validation_days=0.5", "--set", "split.test_days=1"]
        tiny = ["--set", "model.base=16", "--set", "training.batch=4", "--set", "training.validation_cases=2"]
        said["train"] = convcast(root, "train", "--max-steps", "12", *split, *tiny)
        inits = "2024-05-12T12/2024-05-12T18/3h"
        said["sample"] = convcast(root, "sample", "--init", inits, "--members", "4", "--steps", "3")
        against = [
            word for name in ("exact", "persistence", "climatology", "advection") for word in ("--against", name)
        ]
        baselines = ["--set", "verification.baseline_members=4", "--set", "verification.resamples=100"]
        with nothing_drawn():
            said["verify"] = convcast(root, "verify", *against, *baselines, "--name", "test")
        return said

    return made_once("simulated", build)
