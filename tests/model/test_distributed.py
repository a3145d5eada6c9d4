"""Several processes of torchrun train as one, with gloo on this machine's CPU."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convcast.model.checkpoint import LOG, WEIGHTS, ModelDescription, checkpoints
from convcast.model.distributed import Distributed
from convcast.model.tensors import read_tensors
from convcast.model.training.loop import train
from convcast.settings import Settings

from .conftest import CORRECTION_STEPS

SCRIPT = """
import json, sys
from pathlib import Path
from convcast.dataset import Dataset
from convcast.model.training.loop import train
from convcast.settings.load import load_settings
dataset, directory, flags = sys.argv[1:]
list(train(Dataset.open(Path(dataset)), Path(directory), load_settings(flags=json.loads(flags), preset="demo")))
"""
"""Trains a model, in one process or as each of torchrun's ranks."""

FORKS = """
import json, os, sys
import torch._dynamo, torch.distributed.fsdp
from torch.distributed.run import main as torchrun, run_script_path
from convcast.model.features import correction
from convcast.model.training import preparation

describe, described = preparation.describe, []
def remembered(dataset, settings):
    described[:] = described or [describe(dataset, settings)]
    return described[0].under(settings)

preparation.describe = remembered
correction.MAX_STEPS, *script = json.loads(sys.argv[1])
run_script_path(*script)
print("ready", flush=True)
for line in sys.stdin:
    ranks, *script = json.loads(line)
    child = os.fork()
    if child == 0:
        if ranks == 1:
            run_script_path(*script)
        else:
            torchrun(["--standalone", f"--nproc-per-node={ranks}", "--run-path", "--start-method=fork", *script])
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Trains a model, then forks a training, or torchrun and its ranks, for each line on stdin, and prints the process id,
then the exit code. Imports are done and the reference is fitted once for all of them."""


class Forks:
    """The process that forks trainings, and its answers."""

    def __init__(self, process: subprocess.Popen[bytes], script: Sequence[str]) -> None:
        self.stdin, self.stdout, self._script = process.stdin, process.stdout, script

    def begin(self, directory: Path, settings: Settings, *, ranks: int = 1) -> int:
        line = [ranks, *self._script, str(directory), settings.model_dump_json()]
        self.stdin.write(json.dumps(line).encode() + b"\n")
        self.stdin.flush()
        return int(self.stdout.readline())

    def ended(self) -> int:
        return int(self.stdout.readline())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def forks(dataset, settings, models):
    """It has trained the model `one`, by one rank."""
    (models / "train.py").write_text(SCRIPT)
    script = [str(models / "train.py"), str(dataset.path)]
    first = [CORRECTION_STEPS, *script, str(models / "one"), settings(batch=4).model_dump_json()]
    command = [sys.executable, "-c", FORKS, json.dumps(first)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield Forks(process, script)
        process.stdin.close()


@pytest.fixture(scope="module")
def settings(make_settings):
    def make(**training):
        return make_settings(
            model={"dropout": 0.0},
            training={
                "precision": "float32",
                "steps": 3,
                "checkpoint_every": 2,
                "accumulation": 2,
                "validation_cases": 2,
            }
            | training,
        )

    return make


def state(directory: Path) -> dict[str, torch.Tensor]:
    return read_tensors(checkpoints(directory)[-1])[0]


STRATEGIES = {"ddp": 10**9, "fsdp2": 0}
"""The strategy, and the number of parameters above which weights are sharded."""


@pytest.fixture(scope="module")
def one_and_two(settings, forks, models):
    """A folder of models: `one`, trained by one rank, and those of each strategy, by two with half the batch."""
    for strategy, above in STRATEGIES.items():
        forks.begin(models / strategy, settings(batch=2, shard_above=above), ranks=2)
        assert forks.ended() == 0
    return models


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_with_half_the_batch_are_one_with_the_whole(dataset, settings, one_and_two, strategy):
    """Weights, averages, optimiser and validation; then one process goes on where two stopped."""
    one, two = one_and_two / "one", one_and_two / strategy
    expected, found = state(one), state(two)
    assert expected.keys() == found.keys()
    start = torch.cat([v.flatten() for v in ModelDescription.read(one).network().state_dict().values()])
    moved = torch.cat([v.flatten() for name, v in expected.items() if name.startswith("network.")])
    assert (moved - start).abs().max() > 1e-3  # or there would be nothing to compare
    for name, value in expected.items():
        if name.startswith(("network.", "average.")):
            # Adam divides by the root of a squared gradient, so that where it is next to nothing, rounding shows.
            assert (found[name] - value).abs().mean() < 1e-5, name
        elif not name.endswith(".step"):
            torch.testing.assert_close(found[name], value, rtol=1e-2, atol=1e-5, msg=name)
    ours, theirs = (ModelDescription.read(path).validation for path in (one, two))
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-3)
    assert theirs.fields["t2m"].crps == pytest.approx(ours.fields["t2m"].crps, rel=1e-3)
    assert [json.loads(line)["step"] for line in (two / LOG).read_text().splitlines()] == [1, 2, 3]

    assert [report.step for report in train(dataset, two, settings(batch=4, steps=4))] == [4]


def test_ranks_take_their_own_cases_and_the_same_draws(dataset, make_settings):
    from convcast.model.training import preparation
    from convcast.model.training.trainer import Trainer

    settings = make_settings(training={"batch": 2, "draws": 2, "precision": "float32"})
    description = preparation.describe(dataset, settings)
    cases, _ = preparation.cases(dataset, description, settings)
    trainers = [Trainer(description, settings.training, Distributed(torch.device("cpu"))) for _ in range(3)]
    tasks = []
    for trainer, (rank, size, numbers) in zip(
        trainers, [(0, 1, range(4)), (0, 2, (0, 2)), (1, 2, (1, 3))], strict=True
    ):
        trainer.distributed = Distributed(torch.device("cpu"), rank, size)
        batch = type(cases[0]).joined([cases[number] for number in numbers])
        tasks.append(trainer._draw(batch, 0.5, 0, 0))
    whole, *parts = tasks
    for name in ("t", "noise", "blank"):
        rows = getattr(whole, name).reshape(4, 2, -1)
        dealt = [getattr(part, name).reshape(2, 2, -1) for part in parts]
        torch.testing.assert_close(torch.stack([dealt[0], dealt[1]], 1).flatten(0, 1), rows)


@pytest.mark.slow
def test_a_training_killed_at_any_instant_reaches_the_same_weights(dataset, settings, forks, tmp_path):
    """SIGKILL, twice, each at some moment after a checkpoint; then the same command until it is done."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    long = settings(batch=2, steps=12, checkpoint_every=3, accumulation=1, validation_cases=1)
    list(train(dataset, whole, long))
    patience = random.Random(4)
    for _ in range(2):
        before = checkpoints(killed)[-1:]
        process = forks.begin(killed, long)
        while checkpoints(killed)[-1:] == before and not select.select([forks.stdout], [], [], 0.01)[0]:
            pass
        time.sleep(patience.uniform(0, 0.3))
        os.kill(process, signal.SIGKILL)
        assert forks.ended() == -signal.SIGKILL
    forks.begin(killed, long)
    assert forks.ended() == 0
    expected, found = state(whole), state(killed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    best, again = (load_file(path / WEIGHTS) for path in (whole, killed))
    assert all(torch.equal(again[name], value) for name, value in best.items())
