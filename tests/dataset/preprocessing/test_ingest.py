"""Workers make the same dataset as one process."""

from __future__ import annotations

import socket
from contextlib import suppress

import numpy as np
import psutil
import pytest

from convcast.dataset import Dataset, preprocess
from convcast.files import HOST
from convcast.notation import HOUR
from convcast.settings import DatasetSettings
from convcast.workers import Workers

START = np.datetime64("2024-05-06T00", "h")


def contents(path) -> dict[str, bytes]:
    """Return the contents of a dataset's files, without the times of the verdicts."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.suffix != ".jsonl"
    }


def judgements(path) -> dict:
    return {
        hour: (entry["status"], entry["reason"], entry.get("findings"))
        for hour, entry in Dataset.open(path).verdicts().items()
    }


@pytest.fixture
def spoilt(archive):
    """Sixteen hours: one is damaged, one jumps and so does its successor, which is good, and one is a gap."""
    for hour in range(3, 16):
        archive.add_hour(START + hour * HOUR)
    archive.add_hour(START + 4 * HOUR, changed={"cape": None})
    archive.add_hour(START + 7 * HOUR, changed={"t2m": archive.weather(START)["t2m"] + 30})
    archive.path(START + 11 * HOUR, 0).unlink()
    del archive.present[0, START + 11 * HOUR]
    return archive


@pytest.fixture
def expected(spoilt, tmp_path):
    path = tmp_path / "expected.zarr"
    list(preprocess(spoilt, path, settings=DatasetSettings()))
    assert [str(s) for s in Dataset.open(path).status] == list("1111311311121111")
    return path


@pytest.fixture
def another_cluster():
    """Holds the port that dask's scheduler listens at by default, of which it would warn, and a warning is an error."""
    with socket.socket() as taken:
        with suppress(OSError):  # something else has it
            taken.bind(("127.0.0.1", 8787))
            taken.listen()
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("another_cluster")
def test_workers_make_the_same_dataset_though_they_are_killed(spoilt, expected, tmp_path):
    """Each of the two workers is killed once, while hours are in its hands."""
    path = tmp_path / "dataset.zarr"
    killed, verdicts = set(), []
    for number, verdict in enumerate(preprocess(spoilt, path, settings=DatasetSettings(), workers=Workers(2))):
        verdicts.append(verdict)
        if number in (2, 5):
            worker = next(p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline()))
            worker.kill()
            killed.add(worker.pid)
            (path / "data" / "c" / f".0.{HOST}-{worker.pid}-0.partial").touch()  # as if it had died while it wrote
        assert verdict.status == "gap" or verdict.valid in Dataset.open(path).verdicts()
    assert len(killed) == 2
    hours = [verdict.valid for verdict in verdicts if verdict.status != "gap"]
    assert hours == sorted(hours)
    assert verdicts[-1].share == 1
    assert list(path.rglob("*.partial")) == []
    assert contents(path) == contents(expected)
    assert judgements(path) == judgements(expected)


@pytest.mark.slow
def test_hours_of_workers_do_not_exist_before_they_are_committed(spoilt, expected, tmp_path):
    """Left after the fourth hour, with others in the workers' hands: the same call goes on from there."""
    path = tmp_path / "dataset.zarr"
    under_way = preprocess(spoilt, path, settings=DatasetSettings(), workers=Workers(2))
    first = [next(under_way) for _ in range(5)]
    under_way.close()
    assert {verdict.valid for verdict in first} == set(Dataset.open(path).verdicts())
    rest = list(preprocess(spoilt, path, settings=DatasetSettings()))
    assert len(first) + len(rest) == 16
    assert contents(path) == contents(expected)
