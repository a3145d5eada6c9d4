"""Several processes train as one: torchrun with gloo, on this machine's CPU."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from convcast.model.checkpoint import LOG, WEIGHTS, ModelDescription, checkpoints
from convcast.model.distributed import Distributed
from convcast.model.tensors import read_tensors
from convcast.model.training.loop import train

SCRIPT = """
import json, os, sys
from pathlib import Path
from convcast.dataset import Dataset
from convcast.model.training.loop import train
from convcast.settings.load import load_settings
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # torchrun's store keeps the addresses of a group that has ended
dataset, *trainings = sys.argv[1:]
for directory, flags, port in zip(*(trainings[i::3] for i in range(3))):
    os.environ["MASTER_PORT"] = port
    list(train(Dataset.open(Path(dataset)), Path(directory), load_settings(flags=json.loads(flags), preset="demo")))
"""
"""Arguments: the dataset, then for each training its folder, its settings and a free port where the ranks meet."""

NURSERY = """
import json, os, sys
from pathlib import Path
import torch._dynamo
from convcast.dataset import Dataset
from convcast.model.training.loop import train
from convcast.settings.load import load_settings
dataset, directory, flags = sys.argv[1:]
print("ready", flush=True)
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        list(train(Dataset.open(Path(dataset)), Path(directory), load_settings(flags=json.loads(flags), preset="demo")))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Forks a training for each line on stdin, so that imports are done once; prints its process id, then its exit code."""


def torchrun(script: str, *arguments: str, processes: int = 2) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    run = subprocess.run(
        [*command, script, *arguments],
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def free_ports(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [str(server.getsockname()[1]) for server in sockets]


@pytest.fixture(scope="module")
def settings(make_settings):
    def make(**training):
        return make_settings(
            model={"dropout": 0.0},
            training={
                "precision": "float32",
                "steps": 4,
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
def one_and_two(dataset, settings, tmp_path_factory):
    """A folder of models: `one`, trained by one rank, and those of each strategy, by two with half the batch."""
    root = tmp_path_factory.mktemp("ranks")
    list(train(dataset, root / "one", settings(batch=4)))
    (root / "train.py").write_text(SCRIPT)
    trainings = []
    for (strategy, above), port in zip(STRATEGIES.items(), free_ports(len(STRATEGIES)), strict=True):
        trainings += [str(root / strategy), settings(batch=2, shard_above=above).model_dump_json(), port]
    torchrun(str(root / "train.py"), str(dataset.path), *trainings)
    return root


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
    assert [json.loads(line)["step"] for line in (two / LOG).read_text().splitlines()] == [1, 2, 4]

    assert [report.step for report in train(dataset, two, settings(batch=4, steps=6))] == [6]


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
def test_a_training_killed_at_any_instant_reaches_the_same_weights(dataset, settings, tmp_path):
    """SIGKILL, twice, each at some moment after a checkpoint; then the same command until it is done."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    long = settings(batch=2, steps=12, checkpoint_every=3)
    list(train(dataset, whole, long))
    command = [sys.executable, "-c", NURSERY, str(dataset.path), str(killed), long.model_dump_json()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    patience = random.Random(4)
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None

        def begin() -> int:
            nursery.stdin.write(b"\n")
            nursery.stdin.flush()
            return int(nursery.stdout.readline())

        assert nursery.stdout.readline() == b"ready\n"
        stopped = []
        for _ in range(2):
            before = checkpoints(killed)[-1:]
            process = begin()
            while checkpoints(killed)[-1:] == before and not select.select([nursery.stdout], [], [], 0.01)[0]:
                pass
            time.sleep(patience.uniform(0, 0.3))
            os.kill(process, signal.SIGKILL)
            stopped.append(int(nursery.stdout.readline()))
        assert stopped == [-signal.SIGKILL] * 2
        begin()
        assert int(nursery.stdout.readline()) == 0
        nursery.stdin.close()
    expected, found = state(whole), state(killed)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    best, again = (load_file(path / WEIGHTS) for path in (whole, killed))
    assert all(torch.equal(again[name], value) for name, value in best.items())
