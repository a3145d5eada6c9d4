"""Commands and the webhook: what they get, and that their failures are notes."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from convcast.errors import SettingsError
from convcast.operations import hooks as module
from convcast.operations.hooks import Hooks
from convcast.settings import OperationsSettings
from convcast.settings.load import load_settings
from convcast.workers import SAFE_PATH


@pytest.fixture
def server():
    """Answers with `status`, a redirect to /elsewhere, and keeps what came."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.credentials.append(self.headers["Authorization"])
            self.server.came.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(self.server.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.status, found.came, found.credentials = 204, [], []
        found.url = f"http://127.0.0.1:{found.server_port}/secret"
        Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def test_failures_and_thresholds_are_posted_and_publications_are_not(server):
    hooks = Hooks(OperationsSettings(webhook=server.url))
    assert hooks.failed({"code": 3}) == hooks.alerted({"limit": 50}) == hooks.published({"init": "x"}) == []
    assert server.came == [
        ("/secret", "application/json", {"event": "failure", "code": 3}),
        ("/secret", "application/json", {"event": "threshold", "limit": 50}),
    ]


def test_the_command_gets_the_same(server, tmp_path):
    kept = tmp_path / "told.json"
    command = [sys.executable, "-S", "-c", f"import sys; open({str(kept)!r}, 'w').write(sys.stdin.read())"]
    hooks = Hooks(OperationsSettings(webhook=server.url, on_threshold={"command": command}))
    assert hooks.alerted({"name": "$(reboot); 'x'"}) == []
    assert json.loads(kept.read_text()) == server.came[0][2] == {"event": "threshold", "name": "$(reboot); 'x'"}


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_a_redirect_is_not_followed_and_a_refusal_is_a_note_without_the_address(server, status):
    server.status = status
    (note,) = Hooks(OperationsSettings(webhook=server.url)).failed({})
    assert note == f"operations.webhook (127.0.0.1) answered {status}"
    assert len(server.came) == 1


def test_a_server_that_is_away_or_silent_is_a_note(server, monkeypatch):
    (note,) = Hooks(OperationsSettings(webhook="http://127.0.0.1:9/secret")).failed({})
    assert "operations.webhook (127.0.0.1) cannot be reached" in note
    assert "secret" not in note

    monkeypatch.setattr(module, "TIMEOUT", (1, 0.05))
    monkeypatch.setattr(server.RequestHandlerClass, "do_POST", lambda self: __import__("time").sleep(0.3))
    (note,) = Hooks(OperationsSettings(webhook=server.url)).failed({})
    assert "does not answer" in note


def test_a_server_that_drips_its_headers_is_a_note(server, monkeypatch):
    def drip(handler):
        with suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 204 No Content\r\n")
            while True:
                handler.wfile.write(b"X: y\r\n")
                time.sleep(0.02)

    monkeypatch.setattr(module, "TIMEOUT", (0.2, 0.2))
    monkeypatch.setattr(server.RequestHandlerClass, "do_POST", drip)
    (note,) = Hooks(OperationsSettings(webhook=server.url)).failed({})
    assert note == "operations.webhook (127.0.0.1) does not answer"


def test_credentials_are_those_of_the_address_and_none_of_netrc(server, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("default login me password other\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    hooks = Hooks(OperationsSettings(webhook=server.url)), Hooks(OperationsSettings(webhook=named(server.url)))
    assert [note for one in hooks for note in one.failed({})] == []
    assert server.credentials == [None, "Basic bWU6c2VjcmV0"]

    server.status = 500
    (note,) = hooks[1].failed({})
    assert note == "operations.webhook (127.0.0.1) answered 500"


def named(url):
    return url.replace("//", "//me:secret@")


@pytest.mark.parametrize("address", ["ftp://host/secret", "file:///secret", "secret"])
def test_an_unusable_webhook_is_refused_and_addresses_are_shown_nowhere(address):
    with pytest.raises(SettingsError, match=r"operations\.webhook cannot be used: it is not an http") as caught:
        load_settings(flags={"operations": {"webhook": address}})
    assert "secret" not in str(caught.value)

    settings = load_settings(flags={"operations": {"webhook": "https://host/secret"}})
    assert "secret" not in f"{settings!r} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probability": 100}, "less than 100"),
        ({"field": "rain"}, "rain"),
        ({"latitude": 91}, "less than or equal to 90"),
        ({"radius": 3}, r"there is no setting 'operations\.on_threshold\.points\.0\.radius'"),
    ],
)
def test_a_point_that_cannot_be_is_refused_when_settings_are_read(wrong, said):
    point = {"latitude": 35, "longitude": -97, "field": "refc", "threshold": 40, "probability": 30} | wrong
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(flags={"operations": {"on_threshold": {"points": [point]}}})
    if "radius" in wrong:
        assert "radius_km" in caught.value.advice


def test_a_command_has_the_user_s_variables_and_not_ours(tmp_path, monkeypatch):
    """A script would not find the modules beside it if it had the PYTHONSAFEPATH of a run."""
    kept = tmp_path / "told"
    text = f"import os; open({str(kept)!r}, 'w').write(os.environ.get('PYTHONSAFEPATH', '') + os.environ['MINE'])"
    monkeypatch.setenv("MINE", "mine")
    for value, expected in ((SAFE_PATH[1], "mine"), ("1", "1mine")):
        monkeypatch.setenv("PYTHONSAFEPATH", value)
        assert Hooks(OperationsSettings(on_failure=[sys.executable, "-S", "-c", text])).failed({}) == []
        assert kept.read_text() == expected
