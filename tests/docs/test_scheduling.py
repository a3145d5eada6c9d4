"""The examples for cron and systemd do what they say, as far as that can be seen without them."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

from convcast.operations.stages import INTERRUPTED, QUIET
from convcast.settings.load import load_settings

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(("code", "mail"), [(0, ""), (4, ""), (5, ""), (3, "it said\n"), (1, "it said\n")])
def test_cron_mails_only_what_somebody_should_know(tmp_path, code, mail):
    program = tmp_path / "convcast"
    program.write_text(f"#!/bin/sh\necho it said\nexit {code}\n")
    program.chmod(0o755)
    (line,) = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if "convcast cycle" in line]
    minute, hour, day, month, weekday, command = line.split(maxsplit=5)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}

    ended = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == (mail, "")
    assert minute == "5,25,45"
    assert {hour, day, month, weekday} == {"*"}


@pytest.mark.parametrize("log", ["logs/cycle.log", "a file/cycle.log"])
def test_a_missing_log_folder_keeps_no_cycle_from_running(tmp_path, log):
    (tmp_path / "a file").touch()
    program = tmp_path / "convcast"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\necho it said\nexit 1\n")
    program.chmod(0o755)
    (line,) = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if "convcast cycle" in line]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / log), "TMPDIR": str(tmp_path)}

    words = ["bash", "-c", line.split(maxsplit=5)[5]]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert (tmp_path / "ran").is_file()
    assert ended.stdout == "it said\n"


def unit(name):
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str
    parser.read(EXAMPLES / name)
    return parser


def test_systemd_takes_late_data_for_success_and_outwaits_the_deadline():
    service = unit("convcast.service")["Service"]

    assert {int(code) for code in service["SuccessExitStatus"].split()} == set(QUIET) - {0, INTERRUPTED}
    operations = load_settings().operations
    minutes = int(service["TimeoutStartSec"].removesuffix("min"))
    assert 60 > minutes > operations.deadline + (operations.grace + 2 * operations.hook_seconds) / 60
    assert service["ExecStart"].endswith("convcast cycle -q")
    assert unit("convcast.timer")["Timer"]["OnCalendar"] == "*-*-* *:05,25,45:00"
