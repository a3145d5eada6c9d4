"""Fixtures for verbs that are run once and traced, and again from each moment at which they could have been killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from scenarios import SCENARIOS
from spin_up import short_spin_up
from states import States

from convcast.archive.locations import archive_path, hrrr
from convcast.archive.simulated.publisher import Publisher
from convcast.settings import SimulationSettings


@dataclass
class Forks:
    """Runs verbs, as forks of one process, in one folder, into which states are restored."""

    process: subprocess.Popen
    root: Path

    def run(self, words: list[str], **request: Any) -> dict[str, Any]:
        """Run `convcast WORDS`; return its exit code, its output and its seconds."""
        counts = self.root.with_name("counts")
        counts.unlink(missing_ok=True)
        Path(f"{counts}.trace").unlink(missing_ok=True)
        at_root = words if words[0] == "look" else [*words, "--json", "-w", str(self.root)]
        asked = {"words": at_root, "root": str(self.root), "counts": str(counts)} | request
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        said = json.loads(self.process.stdout.readline())
        trace = Path(f"{counts}.trace")
        said["trace"] = [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []
        return said


@dataclass
class Watched:
    """Trace and result of an undisturbed run."""

    words: list[str]
    start: str
    """A state."""
    end: str
    trace: list[dict[str, Any]]
    cpu: float
    """Seconds of a processor."""


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """The process whose forks run verbs."""
    folder = tmp_path_factory.mktemp("crashes")
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    environment |= {"NO_COLOR": "1", "PYTHONHASHSEED": "0", "MPLBACKEND": "agg"}
    script = Path(__file__).with_name("verb_forks.py")
    beside = str(script.parents[2] / "pictures")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [beside, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield Forks(process, folder / "w")
        process.stdin.close()


@pytest.fixture(scope="session")
def states(tmp_path_factory, worker_id):
    own = tmp_path_factory.getbasetemp()
    return States((own if worker_id == "master" else own.parent) / "states")


@pytest.fixture(scope="session")
def bucket(states):
    """A folder of simulated hours in the publisher's layout."""
    folder = states.folder.with_name("bucket")
    with FileLock(f"{folder}.lock"), short_spin_up():
        publisher = Publisher(folder, SimulationSettings(size=32, days=1))
        for hour in np.arange("2024-05-09T00", "2024-05-09T17", dtype="datetime64[h]"):
            publisher.publish(archive_path(hrrr(hour, 0)).as_posix())
        for hour in np.arange("2024-05-09T00", "2024-05-09T02", dtype="datetime64[h]"):
            for lead in (1, 2):
                publisher.publish(archive_path(hrrr(hour, lead)).as_posix())
    return folder


@pytest.fixture(scope="session")
def watched(forks, states, bucket):
    """Run a scenario undisturbed, after those that it needs; each runs once, in the first process that needs it."""
    known: dict[str, Watched] = {}

    def watch(name: str) -> Watched:
        if name not in known:
            scenario, kept = SCENARIOS[name], states.folder / f"{name}.watched"
            before = watch(scenario.after).end if scenario.after else None
            with FileLock(f"{kept}.lock"):
                if not kept.exists():
                    kept.write_text(json.dumps(run(scenario, before)))
            known[name] = Watched(**json.loads(kept.read_text()))
        return known[name]

    def run(scenario, before):
        if before:
            states.lay_out(before, forks.root)
        else:
            shutil.rmtree(forks.root, ignore_errors=True)  # another test may have left it
        if scenario.settings:
            forks.root.mkdir(exist_ok=True)
            (forks.root / "convcast.toml").write_text(scenario.settings.replace("{bucket}", str(bucket)))
        start = states.keep(forks.root)
        words = [word.replace("{bucket}", str(bucket)) for word in scenario.words]
        every = "CRASH_POINTS" in os.environ
        said = forks.run(words, states=str(states.folder) if scenario.tested else None, every=every)
        assert said["code"] == 0, said["err"]
        end = states.keep(forks.root)
        return {"words": words, "start": start, "end": end, "trace": said["trace"], "cpu": said["cpu"]}

    return watch
