"""A run that is told to stop stops, whatever it waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import laboratory as lab
import pytest

from convcast.archive import pool as pool_module
from convcast.archive.pool import ThreadPool
from convcast.archive.simulated.server import serve

PATIENCE = 60
"""Seconds after which a run counts as one that does not stop; every wait in these runs is longer."""
PROGRAM = """
import socket, sys, time
from convcast.cli.main import run
if "--no-names" in sys.argv:
    sys.argv.remove("--no-names")
    def getaddrinfo(*_, **__):
        print("asked", file=sys.stderr, flush=True)
        time.sleep(3600)
    socket.getaddrinfo = getaddrinfo
run()
"""


def begin(tmp_path, address, *words):
    """`convcast fetch` of a few hours, with settings that never lose patience."""
    settings = {"READ_TIMEOUT": "3600", "CONNECT_TIMEOUT": "3600", "WORKERS": "4"}
    environment = os.environ | {f"CONVCAST_ARCHIVE__{name}": value for name, value in settings.items()}
    period = ["--start", str(lab.HOURS[0]), "--end", str(lab.HOURS[-1])]
    command = [sys.executable, "-c", PROGRAM, "fetch", "--source", address, *period, "-w", str(tmp_path / "w"), "-q"]
    return subprocess.Popen(
        [*command, *words], env=environment | {"NO_PROXY": "*"}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )


def stop(process, number):
    """End the run; its exit code and what it said."""
    try:
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    return process.returncode, said.decode()


HABITS = {
    "t18z.wrfsfcf00.grib2.idx": lab.drip_headers,
    "t19z.wrfsfcf00.grib2.idx": lab.mute,
    "t20z.wrfsfcf00.grib2": lab.drip_chunk,
    "t21z.wrfsfcf00.grib2": lab.wait_for_ever,
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_stops_whatever_the_server_does(bucket, tmp_path, number):
    script = lab.Script([lab.Rule(ending, habit) for ending, habit in HABITS.items()])
    with serve(bucket, handler=lab.faulty(script)) as server:
        process = begin(tmp_path, server.url)
        wait_until(process, lambda: set(HABITS) <= {path.rpartition("hrrr.")[2] for _, path, _ in script.requests})
        code, said = stop(process, number)
    assert (code, "run the same command again" in said) == (130, True), said
    assert list((tmp_path / "w").rglob("*.partial")) == []


def test_a_run_stops_while_a_name_is_looked_up(tmp_path):
    process = begin(tmp_path, "http://no-such-host.invalid", "--no-names")
    assert process.stderr.readline().strip() == b"asked"
    code, said = stop(process, signal.SIGTERM)
    assert (code, "run the same command again" in said) == (130, True), said


def wait_until(process, condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_pool_gives_every_result_once():
    pool = ThreadPool(lambda item: item * item, range(100), 7, threading.Event())
    assert sorted(pool.results()) == [item * item for item in range(100)]
    assert pool.unfinished() == []


def test_a_pool_raises_what_its_work_raises():
    def work(item):
        if item == 3:
            raise OSError(28, "no space")
        return item

    with pytest.raises(OSError, match="no space"):
        list(ThreadPool(work, range(10), 1, threading.Event()).results())


def test_a_stopped_pool_leaves_behind_what_does_not_end(monkeypatch):
    monkeypatch.setattr(pool_module, "GRACE", 0.2)
    stopped, never = threading.Event(), threading.Event()

    def work(item):
        if item == 2:
            stopped.set()
            never.wait()
        return item

    pool = ThreadPool(work, range(4), 2, stopped)
    assert sorted(pool.results()) == [0, 1, 3]
    assert pool.unfinished() == [2]
    never.set()
    pool.join()


def test_a_pool_that_is_interrupted_as_it_starts_ends_what_it_began(monkeypatch):
    """The interrupt comes when one of three threads is at work and the second is being started."""
    stopped, at_work, ended = threading.Event(), threading.Event(), []
    start = threading.Thread.start

    def interrupted(thread):
        if thread.name == "fetch-1":
            at_work.wait()
            raise KeyboardInterrupt
        start(thread)

    def work(item):
        at_work.set()
        stopped.wait()
        ended.append(item)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    pool = ThreadPool(work, range(3), 3, stopped)
    with pytest.raises(KeyboardInterrupt):
        list(pool.results())
    stopped.set()
    pool.join()
    assert ended == [0]
