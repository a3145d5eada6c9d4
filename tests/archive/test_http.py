"""What the fault laboratory cannot show from outside: waits and politeness."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from convcast.archive import http
from convcast.archive.failures import Transient
from convcast.archive.simulated.server import Handler, serve
from convcast.settings import ArchiveSettings


class Busy(Handler):
    def answer(self):
        self.respond(503, b"", {"Retry-After": "86400"})


def test_waits_grow_and_vary():
    waits = [[http._wait(number) for _ in range(200)] for number in range(4)]
    assert all(min(later) >= min(earlier) * 1.5 for earlier, later in pairwise(waits))
    assert len(set(waits[0])) > 100


def test_no_wait_is_longer_than_the_longest():
    assert http._wait(30) <= 1.5 * http.LONGEST_WAIT


def test_server_cannot_ask_for_a_day_of_patience(tmp_path, monkeypatch):
    monkeypatch.setattr(http, "LONGEST_WAIT", 0.05)
    client = http.Client(ArchiveSettings(retries=1), direct=True)
    waits = []
    monkeypatch.setattr(client._stopping, "wait", waits.append)
    with serve(tmp_path, handler=Busy) as server, pytest.raises(Transient, match="503"):
        client.text(f"{server.url}/file")
    client.close()
    assert waits == [0.05]


def test_requests_keep_their_distance(tmp_path):
    (tmp_path / "file").write_text("text")
    client = http.Client(ArchiveSettings(), direct=True, pause=0.05)
    begun = time.monotonic()
    with serve(tmp_path) as server:
        for _ in range(4):
            client.text(f"{server.url}/file")
    client.close()
    assert time.monotonic() - begun >= 3 * 0.05


def test_closed_client_waits_no_more(tmp_path):
    client = http.Client(ArchiveSettings(retries=10), direct=True)
    client.close()
    with serve(tmp_path, handler=Busy) as server, pytest.raises(Transient):
        client.text(f"{server.url}/file")
