"""Each finding, good and bad, with a server of our own in place of the publisher."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from convcast.cli.main import app
from convcast.operations.readiness import checks as module
from convcast.operations.readiness.checks import run_checks
from convcast.operations.readiness.libraries import STEPS
from convcast.settings.load import load_settings
from convcast.workspace import Workspace

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def server():
    """Answers HEAD with the status and the clock that it is told to."""
    says = SimpleNamespace(status=404, wrong=timedelta(0))

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response_only(says.status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + says.wrong, usegmt=True))
            self.end_headers()

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    says.url = f"http://127.0.0.1:{made.server_port}"
    yield says
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def tried(request, monkeypatch):
    """The trial takes seconds; one test has it."""
    if request.node.name != "test_definitions_of_another_version_are_not_used":
        ended = json.dumps({"ended": dict.fromkeys(STEPS), "next": None})
        monkeypatch.setattr(module, "LIBRARY_COMMAND", (sys.executable, "-S", "-c", f"print({ended!r})"))


def found(tmp_path, sources, *, preset="demo", **groups):
    settings = load_settings(flags={"archive": {"sources": sources}, **groups}, preset=preset)
    return {result.subject: result for result in run_checks(Workspace(tmp_path / "w"), settings)}


def test_a_machine_that_is_ready(tmp_path, server):
    results = found(tmp_path, [server.url])
    assert {result.state for result in results.values()} == {"ok"}
    assert {"GRIB and maps", "GPU", "disk", "memory", f"source {server.url}", "clock"} <= results.keys()


def test_a_clock_that_is_wrong_is_a_failure_with_its_fix(tmp_path, server):
    server.wrong = timedelta(minutes=-10)
    clock = found(tmp_path, [server.url])["clock"]
    assert (clock.state, clock.detail.split(" s ")[1][:5]) == ("fail", "ahead")
    assert "timedatectl" in clock.fix


@pytest.mark.parametrize("broken", [True, False])
def test_a_source_that_does_not_answer_is_a_failure(tmp_path, server, broken):
    server.status = 503
    url = server.url if broken else NOWHERE
    result = found(tmp_path, [url])[f"source {url}"]
    assert result.state == "fail"
    assert ("503" if broken else "no answer") in result.detail


def test_it_is_a_note_where_another_source_stands_in(tmp_path, server):
    assert found(tmp_path, [NOWHERE, server.url])[f"source {NOWHERE}"].state == "note"


def test_folders_and_the_simulated_archive_need_no_network(tmp_path):
    assert found(tmp_path, [str(tmp_path)])[f"source {tmp_path}"].state == "ok"
    assert found(tmp_path, ["simulated"])["source simulated"].state == "ok"


@pytest.mark.parametrize(("free", "state"), [(5e8, "fail"), (3e9, "note"), (1e12, "ok")])
def test_the_disk_is_judged_by_what_two_weeks_take(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert found(tmp_path, ["simulated"], preset="phase1")["disk"].state == state


def test_a_phase_without_a_gpu_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = found(tmp_path, ["simulated"], preset="phase1")["GPU"]
    assert result.state == "note"
    assert result.fix


def test_the_command_says_it_in_json_and_by_its_exit_code(tmp_path, server):
    def run(url):
        words = ["check", "--json", "-w", str(tmp_path / "w"), "-s", "preset=demo", "-s", f'archive.sources=["{url}"]']
        result = CliRunner().invoke(app, words)
        return result.exit_code, json.loads(result.stdout)

    code, value = run(server.url)
    assert (code, value["ready"]) == (0, True)
    assert value["findings"][0] == {
        "subject": "settings",
        "state": "ok",
        "detail": f"no convcast.toml in {tmp_path / 'w'} yet: the defaults, preset demo",
        "fix": None,
    }
    code, value = run(NOWHERE)
    assert (code, value["ready"]) == (2, False)
    assert not (tmp_path / "w").exists()


def test_the_trial_says_what_it_died_of(tmp_path, monkeypatch):
    said = json.dumps({"ended": {"GRIB and maps": None, "scores": "E: x"}, "next": "pictures"})
    text = f"import os, signal; print({said!r}, flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(module, "LIBRARY_COMMAND", (sys.executable, "-S", "-c", text))
    results = found(tmp_path, ["simulated"])
    assert results["GRIB and maps"].state == "ok"
    assert (results["scores"].state, results["scores"].detail) == ("fail", "E: x")
    assert results["pictures"].state == "fail"
    assert "SIGSEGV" in results["pictures"].detail
    assert all(results[name].fix for name in ("scores", "pictures"))
    assert "stores" not in results


def test_a_trial_that_says_nothing_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LIBRARY_COMMAND", (sys.executable, "-S", "-c", "import sys; sys.exit('no module')"))
    result = found(tmp_path, ["simulated"])["libraries"]
    assert (result.state, result.detail) == ("fail", "ended with 1: no module")


def test_definitions_of_another_version_are_not_used(tmp_path, monkeypatch):
    """ecCodes would know no key of a message by these definitions; a matplotlibrc in the folder is not used either."""
    (tmp_path / "boot.def").write_text("constant zero=0:hidden;\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    (tmp_path / "calendar.py").write_text("raise SystemExit(77)\n")
    monkeypatch.chdir(tmp_path)
    for name in ("ECCODES_DEFINITION_PATH", "GRIB_DEFINITION_PATH", "ECCODES_EXTRA_DEFINITION_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    results = list(module._libraries())
    assert [(result.subject, result.state) for result in results] == [(step, "ok") for step in STEPS]


@pytest.mark.parametrize("number", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EIO"])
def test_a_file_system_without_locks_is_a_failure(tmp_path, monkeypatch, number):
    known = getattr(errno, number)

    def refuse(*_):
        raise OSError(known, os.strerror(known))

    assert found(tmp_path, ["simulated"])["locks"].state == "ok"
    monkeypatch.setattr("fcntl.flock", refuse)
    result = found(tmp_path, ["simulated"])["locks"]
    assert result.state == "fail"
    assert os.strerror(known) in result.detail
    assert "--workspace" in result.fix
    assert list(tmp_path.iterdir()) == []
