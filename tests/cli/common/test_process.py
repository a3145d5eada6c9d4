"""A run in the odd processes that shells, schedulers and containers make: it works, or it says why in one sentence."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from convcast.cli.common import process
from convcast.operations.stages import PROGRAM

LIMIT = 120
"""Seconds that no command here comes near."""
QUICK = """

from convcast.cli import main
from convcast.cli.common.console import table
from convcast.cli.common.session import Command, verb
from convcast.errors import SettingsError

@main.app.command()
@verb()
def quick(command: Command, warning: bool = False, fail: bool = False, lines: int = 1):
    terminal = command.terminal
    for _ in range(lines):
        terminal.say("said \\u2713 \\u2192 \\xe9")
    if fail:
        raise SettingsError("\\u03a9", advice="do")
    if warning:
        import warnings, logging
        warnings.warn("steered \\x1b[2J")
        logging.getLogger("x").warning("logged \\x1b[2J")
    terminal.result({"shown": "\\u2713"}, table("shown", rows=[["\\u2713 \\u2013 \\xe9"]]))

main.run()
"""
"""The program, with a verb that has nothing to do but to show its result."""


@pytest.fixture
def place(tmp_path):
    """A folder with the workspace `w`, and libraries of a stranger beside it."""
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "convcast.toml").write_text('preset = "demo"\n[archive]\nsources = ["simulated"]\n')
    for name in ("calendar", "runpy", "queue", "string", "numpy"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(77)\n")
    return tmp_path


def shell(place, line, **variables):
    """Run a line of bash, in which $C is convcast and Q adds a quick verb; gives exit code, stdout and stderr."""
    environment = {**os.environ, "C": " ".join(PROGRAM), "CONVCAST_WORKSPACE": "w", "QUICK": QUICK, **variables}
    line = f'Q() {{ {sys.executable} -P -c "$QUICK" quick "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", line], cwd=place, env=environment, capture_output=True, timeout=LIMIT, check=False
    )
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


def test_closed_streams_and_pipes_are_no_error(place):
    lines = [
        "Q --json --lines 0 | true; exit ${PIPESTATUS[0]}",
        "Q >&- 2>/dev/null",
        "Q --json >&- 2>&- <&-",
        "Q <&- >/dev/null 2>&1",
        "Q --lines 5000 2>&1 | true; exit ${PIPESTATUS[0]}",
        "$C --help | true; exit ${PIPESTATUS[0]}",
        "$C --version | true; exit ${PIPESTATUS[0]}",
    ]
    said = {line: shell(place, line) for line in lines}
    assert said == dict.fromkeys(lines, (0, "", ""))


def test_no_file_of_a_run_takes_the_place_of_a_closed_stream(place):
    text = "import sys\nfrom convcast.cli.common.process import prepare\nprepare()\nfile = open('kept', 'w')\n"
    (place / "run.py").write_text(text + "print(file.fileno(), file=sys.stderr if len(sys.argv) > 1 else sys.stdout)")
    words = f"{sys.executable} -P run.py"
    _, shown, said = shell(place, f"{words} <&- 2>&-; {words} x <&- >&-")
    assert min(int(shown), int(said)) > 2


def test_a_full_disk_behind_stdout_is_one_sentence(place):
    code, _, said = shell(place, "Q > /dev/full && Q --json > /dev/full")
    assert code == 3
    assert len(said.splitlines()) == 3  # what it says, the sentence and its advice
    assert "the disk is full" in said


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "latin-1:strict"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=str,
)
def test_locales_without_our_signs(place, variables):
    code, shown, said = shell(place, "Q && Q --json && Q --fail", **variables)
    assert code == 2, said
    table, value = shown.splitlines()[1:]
    assert table.strip() in ("ok - \\xe9", "ok - é")
    assert json.loads(value) == {"shown": "✓"}
    assert said.splitlines()[-2:] == ["convcast: \\u03a9", "  -> do"]


def test_widths_that_no_terminal_has(place):
    for columns in ("0", "9" * 5000):
        code, shown, said = shell(place, "Q --help && Q", COLUMNS=columns)
        assert code == 0, said
        assert "--warning" in shown
        assert "✓" in shown.encode("latin-1").decode()


def test_messages_of_libraries_steer_no_terminal(place):
    code, _, said = shell(place, "Q --warning")
    assert code == 0
    assert "steered \\x1b[2J" in said
    assert "logged \\x1b[2J" in said
    assert "\x1b" not in said


def test_a_stranger_s_library_in_the_working_directory_is_not_run(place):
    """Neither a stage of a cycle nor `python -m`, which puts the working directory first, imports from there."""
    (place / "runpy.py").unlink()  # Python itself looks for that one before anything of ours
    code, _, said = shell(place, f"{sys.executable} -m convcast train --help")
    assert code == 0, said
    (place / "runpy.py").write_text("import os\nos._exit(77)\n")
    text = "from convcast.cli.common.process import prepare; prepare(); import subprocess, sys; "
    text += "sys.exit(subprocess.run([sys.executable, '-c', 'import calendar']).returncode)"  # as dask's workers start
    assert shell(place, f'{sys.executable} -P -c "{text}"') == (0, "", "")
    text = "from convcast.operations.stages import run; print(run(['--version'], seconds=60, grace=5).code)"
    code, shown, said = shell(place, f'{sys.executable} -P -c "{text}"')
    assert (code, shown) == (0, "0\n"), said


def test_sigterm_ends_a_run_whose_main_thread_does_not_listen():
    """Compiled code and servers that say nothing keep Python's own handlers waiting."""
    text = """
import subprocess, time
from convcast.cli.common import process
process.PATIENCE = 0.3
process.end_on_sigterm()
child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
begun = False
while True:
    try:
        if not begun:
            begun = True
            print(child.pid, flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("told", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        child = psutil.Process(int(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told\n"
        assert process.wait(LIMIT) == 130
    until = time.monotonic() + LIMIT
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_user_without_a_home_has_one_while_it_runs(monkeypatch):
    def unknown(_):
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setenv("HOME", "/known")
    process._find_a_home()
    assert os.environ["HOME"] == "/known"
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("LOGNAME", "x")
    process._find_a_home()
    home = Path(os.environ["HOME"])
    assert home.is_dir()
    assert home.stat().st_mode & 0o777 == 0o700
    home.rmdir()
