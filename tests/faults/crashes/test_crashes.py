"""Every verb, cut off before each call that changes a file, goes on from there when it is run again.

The calls are found by watching an undisturbed run, so that new ones are tried without being named here. A process that
is killed leaves what lies on the disk at that moment: these states are kept while the run is watched, and the same
command is run from each. By default a few states of each verb are tried: each call (rename, removal, fsync, open, new
folder, ...) is met by one of the three tests; `CRASH_POINTS=all pytest tests/faults/crashes`
tries every one, and `CRASH_POINTS=20` so many of each verb.
"""

from __future__ import annotations

import errno
import os
import random
import signal

import pytest
from scenarios import SCENARIOS
from states import differences, leftovers

pytestmark = pytest.mark.slow

TESTED = [name for name, scenario in SCENARIOS.items() if scenario.tested]
EVERY = os.environ.get("CRASH_POINTS") == "all"
QUICK = TESTED if os.environ.get("CRASH_POINTS") else [name for name in TESTED if name != "cycle"]
"""By default a cycle that prunes stands for the longer one."""
SECONDS = 0.5
"""CPU seconds for each test of each verb by default, or more if its share of the calls takes more."""
KILLED, FAILED, TOLD = slice(0, None, 2), slice(1, None, 4), slice(3, None, 4)
"""Shares of the calls, so that together the tests meet each call of each verb."""
ORDER = ("rename", "remove", "link", "fsync", "truncate", "open", "rmdir", "mkdir", "symlink")
EXPECTED = {0, 2, 3, 4, 5, 6}
"""Exit codes of what is no bug."""
INTERRUPTED = 130


def chosen(watched, scenario, share, *, cost=1.0):
    """Points of the trace to try, in order, and how many of them by default.

    Args:
        watched: The undisturbed run.
        scenario: What was run.
        share: Which of the calls (rename, fsync, ...) this test must meet; the other tests meet the others.
        cost: Seconds of a try, relative to those of a run.
    """
    points = [one for one in watched.trace if EVERY or not one["path"].startswith(scenario.elsewhere)]
    points.sort(key=lambda one: ORDER.index(one["kind"].split()[0]))
    calls, kinds, last = {}, {}, {}
    for number, point in enumerate(points):
        calls.setdefault(point["kind"].split()[0], number)
        kinds.setdefault(point["kind"], number)
        last[point["kind"]] = number
    rest = list(range(len(points)))
    random.Random(str(scenario.words)).shuffle(rest)
    due = list(calls.values())[share]
    ordered = dict.fromkeys([*due, *calls.values(), *kinds.values(), *last.values(), *rest])
    wanted = os.environ.get("CRASH_POINTS", "")
    most = max(len(due), 1, int(SECONDS / cost / (watched.cpu + 0.5)))
    return [points[number] for number in ordered], len(points) if EVERY else int(wanted or most)


class Trial:
    """Lays out a state, looks at it, runs the command again and compares."""

    def __init__(self, scenario, watched, forks, states, expected):
        self.scenario, self.watched, self.forks, self.states, self.expected = (
            scenario,
            watched,
            forks,
            states,
            expected,
        )
        self.sound = {watched.start}
        states.lay_out(watched.end, expected)

    def goes_on_from(self, state, what):
        """Run the same command from this state, recorded after `what`; return the faults."""
        if state in self.sound:
            return []
        self.sound.add(state)
        root = self.forks.root
        self.states.lay_out(state, root, later=True)
        wrong = []
        looked = self.forks.run(["look", str(root), str(self.expected)])
        wrong += [f"before the next run, {looked['out'][-600:]}{looked['err'][-600:]}"] * (looked["code"] != 0)
        again = self.forks.run(self.watched.words)
        if again["code"] != 0:
            wrong.append(f"the same command ends with {again['code']}: {again['err'][-600:]}")
        else:
            wrong += differences(self.expected, root)
        return [f"{what}: {one}" for one in wrong]


@pytest.fixture
def trial(request, watched, forks, states, tmp_path):
    return Trial(SCENARIOS[request.param], watched(request.param), forks, states, tmp_path / "expected")


def by_verb(names):
    return pytest.mark.parametrize("trial", names, indirect=True)


@by_verb(TESTED)
def test_killed_before_any_call(trial):
    ordered, most = chosen(trial.watched, trial.scenario, KILLED)
    wrong = []
    for point in ordered:
        if point["state"] is None:
            continue
        if len(trial.sound) > most:
            break
        wrong += trial.goes_on_from(point["state"], f"killed before {point['kind']} #{point['number']} {point['path']}")
    assert not wrong, "\n".join(wrong)


@by_verb(QUICK)
def test_disk_that_fails_at_any_call(trial):
    """A full disk is exit code 3 and a broken one 6, or what failed was not needed; the next run finishes the work."""
    ordered, most = chosen(trial.watched, trial.scenario, FAILED, cost=2)
    tried = ordered[:most]
    wrong = []
    for turn, point in enumerate(tried):
        for number in [errno.ENOSPC, errno.EIO] if EVERY else [(errno.ENOSPC, errno.EIO)[turn % 2]]:
            what = f"{errno.errorcode[number]} at {point['kind']} #{point['number']} {point['path']}"
            trial.states.lay_out(trial.watched.start, trial.forks.root)
            said = trial.forks.run(trial.watched.words, point=(point["kind"], point["number"]), errno=number)
            if said["code"] not in EXPECTED or "Traceback" in said["err"]:
                wrong.append(f"{what}: exit code {said['code']}: {said['err'][-1500:]}")
            wrong += trial.goes_on_from(trial.states.keep(trial.forks.root), what)
    assert not wrong, "\n".join(wrong)


@by_verb(QUICK)
def test_told_to_end_at_any_call(trial):
    """SIGTERM: it leaves no unfinished file, and the next run finishes the work."""
    ordered, most = chosen(trial.watched, trial.scenario, TOLD, cost=4)
    wrong = []
    for point in ordered[:most]:
        what = f"told to end at {point['kind']} #{point['number']} {point['path']}"
        trial.states.lay_out(trial.watched.start, trial.forks.root)
        said = trial.forks.run(trial.watched.words, point=(point["kind"], point["number"]), signal=int(signal.SIGTERM))
        if said["code"] not in {0, INTERRUPTED} or "Traceback" in said["err"]:
            wrong.append(f"{what}: exit code {said['code']}: {said['err'][-1500:]}")
        wrong += [f"{what}: {path} is left" for path in leftovers(trial.forks.root)]
        wrong += trial.goes_on_from(trial.states.keep(trial.forks.root), what)
    assert not wrong, "\n".join(wrong)
