"""The examples are valid: cron reads the table, the shell the scripts, convcast all commands, there and in the docs."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from convcast.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*") if path.is_file())
CRONTABS = [path for path in EXAMPLES if path.name.startswith("crontab")]
SCRIPTS = [path for path in EXAMPLES if path.read_bytes().startswith(b"#!") or path.suffix in (".sh", ".sbatch")]
WITH_COMMANDS = [path for path in EXAMPLES if path.name != "logrotate"]  # which names a user convcast
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = typer.main.get_command(app).commands
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
"""Ranges of the five columns of a crontab."""
COMMAND = re.compile(r"(?:^|[\s(;&|$/=])(?:convcast|-m convcast) (?P<rest>[a-z][^;&|)#>]*)")


def joined(text: str) -> list[str]:
    """Lines, those that go on after a backslash made one."""
    return text.replace("\\\n", " ").splitlines()


def commands(lines):
    """Return the words after `convcast` in these lines."""
    return [match["rest"].strip() for line in lines for match in COMMAND.finditer(line)]


def problem(command: str) -> str | None:
    """Return the error of convcast for the verb and its options, without running it."""
    verb, *words = shlex.split(command)
    if verb not in COMMANDS:
        return f"there is no verb {verb}"
    options = {name: option for option in COMMANDS[verb].params for name in (*option.opts, *option.secondary_opts)}
    for word in words:
        name = word.split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", name) and name not in {*options, "--help", "-h"}:
            return f"{verb} has no {name}"
    return None


@pytest.mark.parametrize("path", CRONTABS, ids=lambda path: path.name)
def test_cron_reads_the_table(path):
    jobs = []
    for line in path.read_text().splitlines():
        if not line.strip() or line.startswith("#") or re.fullmatch(r"[A-Z_]+=\S*", line):
            continue
        *times, job = line.split(None, 5)
        assert len(times) == 5, line
        for column, (low, high) in zip(times, RANGES, strict=True):
            for part in column.split(","):
                match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/\d+)?", part)
                assert match, line
                assert all(low <= int(number) <= high for number in match.groups() if number), line
        assert "%" not in job.replace("\\%", ""), "cron takes % for the end of the command"
        jobs.append(job)
    assert jobs
    for job in jobs:
        subprocess.run(["bash", "-n", "-c", job], check=True)
        assert commands([job])
        assert [found for found in map(problem, commands([job])) if found] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_shell_reads_the_script(path):
    subprocess.run(["bash", "-n", str(path)], check=True)
    lines = [line for line in joined(path.read_text()) if not line.startswith("#")]
    assert "set -euo pipefail" in lines
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(path)], check=True)


def test_slurm_starts_convcast():
    lines = joined((ROOT / "examples/slurm.sbatch").read_text())
    assert commands(lines) == ["train --phase 2"]


@pytest.mark.parametrize("path", WITH_COMMANDS, ids=lambda path: path.name)
def test_every_command_of_an_example_exists(path):
    text = path.read_text()
    if path.suffix == ".py":
        ast.parse(text, str(path))
    lines = [line for line in joined(text) if not line.startswith("#")]
    assert [found for found in map(problem, commands(lines)) if found] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_of_a_page_exists(path):
    """Return the lines of a page's code blocks, which are to be typed."""
    blocks = re.findall(r"^```(?:console|bash|sh)?\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"(?:^    .*\n)+", path.read_text(), re.MULTILINE)
    lines = [line.split("  #")[0] for block in blocks for line in joined(block)]
    assert [found for found in map(problem, commands(lines)) if found] == []


def test_commands_are_found_where_they_stand():
    lines = [
        "$ convcast fetch --days 1   ",
        "(convcast train -q && /opt/bin/convcast sample -q) >> log",
        "see convcast.",
    ]
    assert commands(lines) == ["fetch --days 1", "train -q", "sample -q"]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("fetch --days 1 -q", None),
        ("fetch --dais 1", "fetch has no --dais"),
        ("fetsh", "there is no verb fetsh"),
        ("sample --members=5 -w x", None),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command, said):
    assert problem(command) == said
