"""Waits and pauses of the HTTP client, which the faulty server of `laboratory` cannot observe."""

from __future__ import annotations

import socket
import threading
from itertools import pairwise

import pytest

from convcast.archive.failures import Transient
from convcast.archive.simulated.server import Handler, serve
from convcast.archive.web import http
from convcast.settings import ArchiveSettings


class Busy(Handler):
    def answer(self):
        self.respond(503, b"", {"Retry-After": "86400"})


def test_waits_grow_and_vary():
    waits = [[http._wait(number) for _ in range(200)] for number in range(4)]
    assert all(min(later) >= min(earlier) * 1.5 for earlier, later in pairwise(waits))
    assert len(set(waits[0])) > 100


def test_no_wait_is_longer_than_the_longest():
    assert http._wait(30) <= 1.5 * http.MAX_WAIT


def test_server_cannot_ask_for_a_day_of_patience(tmp_path, monkeypatch):
    monkeypatch.setattr(http, "MAX_WAIT", 0.05)
    client = http.Client(ArchiveSettings(retries=1), direct=True)
    waits = []
    monkeypatch.setattr(client._stopping, "wait", waits.append)
    with serve(tmp_path, handler=Busy) as server, pytest.raises(Transient, match="503"):
        client.text(f"{server.url}/file")
    client.close()
    assert waits == [0.05]


def test_requests_keep_their_distance(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")
    client = http.Client(ArchiveSettings(), direct=True, pause=1e6)
    waits = []
    monkeypatch.setattr(client._stopping, "wait", waits.append)
    with serve(tmp_path) as server:
        for _ in range(4):
            client.text(f"{server.url}/file")
    client.close()
    assert waits[0] == 0
    assert len(waits) == 4
    assert all(1e5 < wait <= 1e6 for wait in waits[1:])


def test_closed_client_waits_no_more(tmp_path):
    client = http.Client(ArchiveSettings(retries=10), direct=True)
    client.close()
    with serve(tmp_path, handler=Busy) as server, pytest.raises(Transient):
        client.text(f"{server.url}/file")


def listening():
    """A socket that takes connections and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    return server, server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_closing_ends_what_waits_for_an_answer_or_a_handshake(scheme):
    patient = ArchiveSettings(retries=0, connect_timeout=3600, read_timeout=3600)
    server, port = listening()
    failures = []

    def ask():
        try:
            client.text(f"{scheme}://127.0.0.1:{port}/file")
        except Transient as failure:
            failures.append(str(failure))

    with server:
        client = http.Client(patient, direct=True)
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        connection, _ = server.accept()
        with connection:
            connection.recv(1)
            client.close("enough")
            thread.join(timeout=60)
    assert failures == ["enough"]


def test_a_bundle_of_certificates_that_is_not_there_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("NO_PROXY", "*")
    client = http.Client(ArchiveSettings(retries=0))
    with pytest.raises(Transient, match=r"none\.pem"):
        client.text("https://127.0.0.1:9/file")
    client.close()
    assert "none.pem" in client.unreachable


def test_a_server_that_is_gone_for_good_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    (tmp_path / "file").write_text("text")
    client = http.Client(ArchiveSettings(workers=1, retries=3), direct=True)
    brief = type("Brief", (Handler,), {"protocol_version": "HTTP/1.0"})  # no connection outlives its request
    with serve(tmp_path, handler=brief) as server:
        assert client.text(f"{server.url}/file") == "text"
    for _ in range(3):
        with pytest.raises(Transient):
            client.text(f"{server.url}/file")
    client.close()
    assert client.unreachable == "no connection can be made"


@pytest.mark.parametrize("proxy", ["http://[", "socks9://127.0.0.1:9", "http://127.0.0.1:99999999"])
def test_a_proxy_that_is_none_is_said_once(monkeypatch, proxy):
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", proxy)
    client = http.Client(ArchiveSettings(retries=0))
    with pytest.raises(Transient, match="cannot be used"):
        client.text("http://127.0.0.1:9/file")
    client.close()
    assert "proxy" in client.unreachable
