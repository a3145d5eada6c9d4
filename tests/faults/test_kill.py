"""Runs that are killed at any instant, and the run after them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys

import laboratory as lab
import pytest

from convcast.archive import Archive, verify_archive
from convcast.archive.simulated.server import serve

KILLS = 15
"""Runs that are killed at random instants."""

# Imports are done once; each line on stdin forks a run that fetches everything and is killed so many seconds
# later, or at its first bytes.
FORKS = """
import importlib, os, signal, sys, time
from pathlib import Path
import numpy as np
from convcast.archive import Archive, fetch, locations, open_sources
from convcast.settings.load import load_settings
from convcast.variables import FIELDS
from convcast.workspace import Workspace
url, root, start, end = sys.argv[1:]
settings = load_settings(flags={"archive": {"workers": 3}})
hours = np.arange(start, end, dtype="datetime64[h]")
locations.prepare()
# How soon the threads of an interrupted run end depends on the machine.
importlib.import_module("convcast.archive.fetch").GRACE = 60
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            with open_sources([url], workspace=Workspace(Path(root)), settings=settings) as sources:
                outcomes = list(fetch(Archive(Path(root)), sources, hours, variables=tuple(FIELDS.values()), lead=0,
                                      settings=settings.archive, now=hours[-1]))
        except KeyboardInterrupt:
            sys.exit(130)
        os._exit(0 if all(o.status in ("ok", "cached") for o in outcomes) else 1)
    if line.strip():
        when, number = line.split()
        if when == "writing":
            while not list(Path(root).rglob("*.partial")):
                time.sleep(0.001)
        else:
            time.sleep(float(when))
        os.kill(child, int(number))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def forks(bucket, tmp_path):
    script = lab.Script([lab.Rule(".grib2", lab.slow)])
    with serve(bucket, handler=lab.faulty(script)) as server:
        start, end = str(lab.HOURS[0]), str(lab.HOURS[-1] + 1)
        command = [sys.executable, "-c", FORKS, server.url, str(tmp_path / "archive"), start, end]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"

            def run(after: float | str | None = None, number: int = signal.SIGKILL) -> int:
                print("" if after is None else f"{after} {int(number)}", file=process.stdin, flush=True)
                return int(process.stdout.readline())

            yield run, Archive(tmp_path / "archive"), script


def all_named_files_are_whole(archive: Archive) -> bool:
    """Every file under its final name, sidecar or none, has the right bytes; every sidecar can be read."""
    for hour in lab.HOURS:
        path = archive.path(hour, 0)
        if path.exists() and path.read_bytes() != lab.subset(hour):
            return False
    for sidecar in archive.root.rglob("*.json"):
        json.loads(sidecar.read_bytes())
    return True


def test_killed_runs_leave_whole_files_and_the_next_completes(forks):
    run, archive, _ = forks
    instants, killed = random.Random(KILLS), 0
    for _ in range(KILLS):
        code = run(instants.uniform(0, 0.3))
        killed += code == -signal.SIGKILL
        assert all_named_files_are_whole(archive)
        if code == 0:
            for path in archive.root.rglob("*.grib2*"):
                path.unlink()
    assert killed > KILLS / 3
    assert run() == 0
    assert [archive.path(hour, 0).read_bytes() for hour in lab.HOURS] == [lab.subset(hour) for hour in lab.HOURS]
    assert list(archive.root.rglob("*.partial")) == []
    assert archive.hours(0).tolist() == lab.HOURS.tolist()


def test_interrupted_run_cleans_up_after_itself(forks):
    run, archive, script = forks
    # Long enough that even a busy machine interrupts it before its end.
    script.rules = [lab.Rule(".grib2", lab.very_slow)]
    assert run("writing", signal.SIGINT) == 130
    assert all_named_files_are_whole(archive)
    assert list(archive.root.rglob("*.partial")) == []


@pytest.mark.slow
def test_two_runs_at_once_do_no_harm(bucket, tmp_path):
    """Both finish without the command line's lock, and every file and sidecar agree."""
    with serve(bucket) as server:
        start, end = str(lab.HOURS[0]), str(lab.HOURS[-1] + 1)
        command = [sys.executable, "-c", FORKS, server.url, str(tmp_path / "archive"), start, end]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            print(file=process.stdin, flush=True)
        codes = [int(process.stdout.readline()) for process in processes]
        for process in processes:
            process.communicate()
    archive = Archive(tmp_path / "archive")
    assert codes == [0, 0]
    assert {outcome.status for outcome in verify_archive(archive)} == {"ok"}
    assert len(list(archive.files())) == len(lab.HOURS) + 1
