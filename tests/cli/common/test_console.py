"""Text from outside is shown as text: no markup, no escape sequence and no further line."""

import json

import pytest
import typer

from convcast.cli.common.console import Terminal, table
from convcast.cli.common.session import Command, verb
from convcast.errors import DamagedFileError, MissingInputError
from convcast.text import printable

HOSTILE = "[/b] [red]x[/] [link=file:///]y :smile: \x1b[2J\x07 a\nb\r \u202eevil\u2028 \udcff {0} {task} %s"
SHOWN = "[/b] [red]x[/] [link=file:///]y :smile: \\x1b[2J\\x07 a\\nb\\r \\u202eevil\\u2028 \\udcff {0} {task} %s"


def test_printable_shows_what_would_steer_a_terminal_and_leaves_the_rest():
    assert printable(HOSTILE) == SHOWN
    assert printable("Ø 40 dBZ → ½° ✓ 雷") == "Ø 40 dBZ → ½° ✓ 雷"


@pytest.mark.parametrize("dress", ["plain", "terminal"])
def test_every_way_to_the_terminal(capsys, monkeypatch, dress):
    if dress == "terminal":
        for name, value in (("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1"), ("TERM", "xterm"), ("COLUMNS", "900")):
            monkeypatch.setenv(name, value)
    terminal = Terminal()
    terminal.say(HOSTILE)
    terminal.warn(HOSTILE)
    assert list(terminal.track([1], total=1, title=HOSTILE, line=lambda _: HOSTILE)) == [1]
    with pytest.raises(typer.Exit) as ended:
        terminal.fail(DamagedFileError(HOSTILE, advice=HOSTILE))
    assert ended.value.exit_code == 6
    terminal.result({}, HOSTILE, table(HOSTILE, (HOSTILE, "b"), title=HOSTILE, rows=[[HOSTILE, (HOSTILE, "c")]]))
    said = capsys.readouterr()
    assert said.err.count(SHOWN) >= 6
    assert said.out.count(SHOWN) == 6
    for text in (said.out, said.err):
        assert "\x1b[2J" not in text
        assert not set(text) & set("\x07\u202e\u2028\udcff")


def test_json_stays_one_line_of_ascii(capsys):
    terminal = Terminal(as_json=True)
    terminal.result({"reason": HOSTILE})
    terminal.end()
    said = capsys.readouterr().out
    assert json.loads(said)["reason"] == HOSTILE
    assert said.isascii()
    assert said.count("\n") == 1


@pytest.mark.parametrize("words", [["--days", HOSTILE], [f"--{HOSTILE}"], ["-w", HOSTILE, "--days", "1", "--end", "x"]])
def test_an_error_of_typing_is_one_sentence(convcast, words):
    result = convcast("fetch", *words)
    assert result.exit_code == 2
    said, advice = result.stderr.splitlines()
    assert said.startswith("convcast: ")
    assert advice.startswith("  → ")
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["--nonsense"],
        ["fetch", "--days", "x"],
        ["fetch", "--days", "2", "--end", "2024-05-01"],
        ["preprocess", "--workers", "0"],
        ["train", "--phase", "3"],
        ["sample", "--members", "0"],
        ["verify", "--init", "x"],
        ["cycle", "--deadline", "x"],
        ["status", "--max-age", "x"],
        ["plot", "--kind", "x"],
        ["export", "--format", "x"],
        ["check", "--set", "x"],
    ],
    ids=" ".join,
)
def test_a_failure_is_one_object_too(convcast, words):
    result = convcast(*words, "--json")
    value = json.loads(result.stdout)
    assert value.keys() == {"error", "exit_code", "advice"}
    assert (result.exit_code, value["exit_code"]) == (2, 2)
    assert len(result.stderr.splitlines()) == 1 + (value["advice"] is not None)


def test_a_result_that_fails_is_still_one_object(capsys):
    @verb()
    def fails(command: Command) -> None:
        command.terminal.result({"hours": 3})
        raise MissingInputError("one is missing", advice="again")

    with pytest.raises(typer.Exit) as ended:
        fails(as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == {"hours": 3, "error": "one is missing", "exit_code": 3, "advice": "again"}
    assert said.err.splitlines() == ["convcast: one is missing", "  → again"]
    assert ended.value.exit_code == 3


def test_a_bug_and_an_interruption_are_one_object_too(convcast, monkeypatch):
    def broken(error):
        def opened(*_):
            raise error

        return opened

    for error, code in ((RuntimeError(HOSTILE), 1), (KeyboardInterrupt(), 130)):
        monkeypatch.setattr("convcast.workspace.open_workspace", broken(error))
        result = convcast("status", "--json")
        assert result.exit_code == code
        assert json.loads(result.stdout)["exit_code"] == code


def test_a_hostile_workspace_in_status(convcast, tmp_path):
    """Reasons, stages and notes come from files that others write."""
    place = tmp_path / "w"
    place.mkdir()
    (place / "convcast.toml").write_text('preset = "demo"\n')
    stage = {"stage": "fetch", "about": HOSTILE, "code": 3, "outcome": "incomplete", "seconds": 1.0, "error": HOSTILE}
    cycle = {"started": HOSTILE, "outcome": HOSTILE, "seconds": 1.0, "stages": [stage], "notes": [HOSTILE], "code": 3}
    (place / "cycle.json").write_text(json.dumps(cycle))
    (place / "forecasts" / "[b]x\x1b[2J.zarr").mkdir(parents=True)
    result = convcast("status", "--now", "2024-05-06T21")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count(SHOWN) == 4
    assert "newest [b]x\\x1b[2J.zarr" in result.stdout
    assert convcast("status", "--check", "--now", "2024-05-06T21").exit_code == 4


def test_a_table_that_is_too_wide_for_the_terminal_loses_no_number(capsys):
    wide = table(
        ("field", "of all"),
        "convcast",
        ("spread", "/error"),
        title="lead 1 h",
        rows=[[("refc", "dBZ"), ("1.25", "1 – 2"), "0.85"]],
    )
    for width, expected in (
        (60, "lead 1 h field spread of all convcast /error refc 1.25 0.85 dBZ 1 – 2"),
        (20, "lead 1 h refc (dBZ) convcast: 1.25 (1 – 2) spread /error: 0.85"),
    ):
        terminal = Terminal()
        terminal.out.width = width
        terminal.result({}, wide)
        said = capsys.readouterr().out
        assert " ".join(said.split()) == expected
        assert max(map(len, said.splitlines())) <= 60
