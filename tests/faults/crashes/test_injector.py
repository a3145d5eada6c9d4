"""The harness sees every change of a file, keeps what a kill would leave, and tells what differs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from scenarios import SCENARIOS
from states import States, differences

CHANGES = """
import os, pathlib, shutil, sys
from os import replace as renamed
from pathlib import Path
from injector import Injector

root, seen = Path(sys.argv[1]), []
Injector(root, Path(sys.argv[2]), lambda point, path: seen.append(str(point))).arm()
(root / "a").mkdir()
(root / "a").mkdir(exist_ok=True)
for number in (1, 2):
    with open(root / "a" / f"part-{number}.tmp", "w") as file:
        file.write("x")
        os.fsync(file.fileno())
    renamed(root / "a" / f"part-{number}.tmp", root / "a" / f"part-{number}")
(root / "a" / "part-1").read_text()
os.link(root / "a" / "part-1", root / "b")
(root / "b").unlink()
(root / "b").unlink(missing_ok=True)
shutil.rmtree(root / "a")
(root.parent / "elsewhere").touch()
print("\\n".join(seen))
"""


def test_every_way_of_changing_a_file_is_seen_and_nothing_else(tmp_path):
    (tmp_path / "w").mkdir()
    finished = subprocess.run(
        [sys.executable, "-c", CHANGES, str(tmp_path / "w"), str(tmp_path / "counts")],
        env={"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    file = ["open a/part-#.tmp", "fsync a/part-#.tmp", "rename a/part-#"]
    expected = ["mkdir a #0", *(f"{kind} #{number}" for number in (0, 1) for kind in file), "link b #0", "remove b #0"]
    assert finished.stdout.splitlines() == [*expected, "remove a/part-# #0", "remove a/part-# #1", "rmdir a #0"]


def test_the_recorded_state_of_a_moment_is_the_one_that_a_kill_leaves(forks, watched, states, tmp_path):
    fetched = watched("fetch")
    point = [one for one in fetched.trace if one["state"] and one["kind"].startswith("open archive")][-1]
    states.lay_out(fetched.start, forks.root)

    said = forks.run(fetched.words, point=(point["kind"], point["number"]), signal=int(signal.SIGKILL))

    assert said["code"] == -signal.SIGKILL
    states.lay_out(point["state"], tmp_path / "kept")
    assert differences(tmp_path / "kept", forks.root) == []
    assert differences(forks.root, tmp_path / "kept") == []


def test_states_are_laid_out_as_they_were(tmp_path):
    states, root = States(tmp_path / "states"), tmp_path / "w"
    (root / "empty").mkdir(parents=True)
    (root / "a.json").write_text("1")
    first = states.keep(root)
    (root / "a.json").write_text("2")
    assert states.keep(root) != first

    states.lay_out(first, root)

    assert (root / "a.json").read_text() == "1"
    assert (root / "empty").is_dir()
    assert states.keep(root) == first


def test_values_differ_and_times_do_not(tmp_path):
    for name, said in (
        ("one", {"at": 1, "score": 1}),
        ("two", {"at": 2, "score": 1}),
        ("three", {"at": 1, "score": 2}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(json.dumps(said))
    (tmp_path / "three" / ".a.json.partial").touch()

    assert differences(tmp_path / "one", tmp_path / "two") == []
    assert differences(tmp_path / "one", tmp_path / "three") == [".a.json.partial is left over", "a.json differs"]


def test_every_verb_that_writes_is_tried():
    from convcast.cli.main import app

    verbs = {command.callback.__name__ for command in app.registered_commands}
    assert verbs - {scenario.words[0] for scenario in SCENARIOS.values() if scenario.tested} == {
        "status",  # it reads
        "check",  # it writes nothing to a workspace
        "demo",  # it runs the others
        "hindcast",  # and so does it
    }
