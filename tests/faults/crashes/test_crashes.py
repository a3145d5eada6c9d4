"""Every verb, cut off before each call that changes a file, goes on from there when it is run again.

The calls are found by watching an undisturbed run, so that new ones are tried without being named here. A process that
is killed leaves what lies on the disk at that moment: these states are kept while the run is watched, and the same
command is run from each. By default a few states of each verb are tried, one for each kind of call (a rename before a
removal, an fsync, an open or a new folder), as many as fit in a minute; `CRASH_POINTS=all pytest tests/faults/crashes`
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
SECONDS = 3.0
"""Of a processor for each test of each verb, by default."""
ORDER = ("rename", "remove", "link", "fsync", "truncate", "open", "rmdir", "mkdir", "symlink")
EXPECTED = {0, 2, 3, 4, 5, 6}
"""Exit codes of what is no bug."""
INTERRUPTED = 130


def chosen(watched, scenario, *, cost=1.0):
    """Points of the trace: the first of each kind, then the last, then any, as many as there is time for."""
    wanted = os.environ.get("CRASH_POINTS", "")
    most = len(watched.trace) if EVERY else int(wanted or max(2, SECONDS / cost / (watched.cpu + 0.5)))
    points = [one for one in watched.trace if EVERY or not one["path"].startswith(scenario.elsewhere)]
    kinds = {}
    for point in points:
        kinds.setdefault(point["kind"], []).append(point)
    by_urgency = sorted(kinds.values(), key=lambda same: ORDER.index(same[0]["kind"].split()[0]))
    rest = list(points)
    random.Random(str(scenario.words)).shuffle(rest)
    ordered = [*(same[0] for same in by_urgency), *(same[-1] for same in by_urgency), *rest]
    return ordered, most


class Trial:
    """Lays out a state, looks at it, runs the command again and compares."""

    def __init__(self, scenario, watched, nursery, states, expected):
        self.scenario, self.watched, self.nursery, self.states, self.expected = (
            scenario,
            watched,
            nursery,
            states,
            expected,
        )
        self.sound = set()
        states.lay_out(watched.end, expected)

    def goes_on_from(self, state, what):
        """What is wrong after the same command is run from this state, seen after `what`."""
        if state in self.sound:
            return []
        self.sound.add(state)
        root = self.nursery.root
        self.states.lay_out(state, root, later=True)
        wrong = []
        if (root / "convcast.toml").exists():
            said = self.nursery.run(["status"])
            wrong += [f"status: {said['code']} {said['err'][-300:]}"] * (said["code"] != 0)
        looked = self.nursery.run(["look", str(root), str(self.expected)])
        wrong += [f"it counts as whole: {looked['out']}{looked['err'][-600:]}"] * (looked["code"] != 0)
        again = self.nursery.run(self.watched.words)
        if again["code"] != 0:
            wrong.append(f"the same command ends with {again['code']}: {again['err'][-600:]}")
        else:
            wrong += differences(self.expected, root)
        return [f"{what}: {one}" for one in wrong]


@pytest.fixture
def trial(request, watched, nursery, states, tmp_path):
    return Trial(SCENARIOS[request.param], watched(request.param), nursery, states, tmp_path / "expected")


def by_verb(names):
    return pytest.mark.parametrize("trial", names, indirect=True)


@by_verb(TESTED)
def test_killed_before_any_call(trial):
    ordered, most = chosen(trial.watched, trial.scenario)
    wrong = trial.goes_on_from(trial.watched.start, "undisturbed again")
    for point in ordered:
        if len(trial.sound) > most:
            break
        wrong += trial.goes_on_from(point["state"], f"killed before {point['kind']} #{point['number']} {point['path']}")
    assert not wrong, "\n".join(wrong)


@by_verb(QUICK)
def test_disk_that_fails_at_any_call(trial):
    """A full disk is exit code 3 and a broken one 6, or what failed was not needed; the next run finishes the work."""
    ordered, most = chosen(trial.watched, trial.scenario, cost=2)
    tried = ordered if EVERY else ordered[: max(1, most)]
    wrong = []
    for turn, point in enumerate(tried):
        for number in [errno.ENOSPC, errno.EIO] if EVERY else [(errno.ENOSPC, errno.EIO)[turn % 2]]:
            what = f"{errno.errorcode[number]} at {point['kind']} #{point['number']} {point['path']}"
            trial.states.lay_out(trial.watched.start, trial.nursery.root)
            said = trial.nursery.run(trial.watched.words, point=(point["kind"], point["number"]), errno=number)
            if said["code"] not in EXPECTED or "Traceback" in said["err"]:
                wrong.append(f"{what}: exit code {said['code']}: {said['err'][-1500:]}")
            wrong += trial.goes_on_from(trial.states.keep(trial.nursery.root), what)
    assert not wrong, "\n".join(wrong)


@by_verb(QUICK)
def test_told_to_end_at_any_call(trial):
    """SIGTERM: it leaves no unfinished file, and the next run finishes the work."""
    ordered, most = chosen(trial.watched, trial.scenario, cost=2)
    random.Random(str(trial.scenario.words)).shuffle(ordered)
    wrong = []
    for point in ordered[: max(1, most // 2)]:
        what = f"told to end at {point['kind']} #{point['number']} {point['path']}"
        trial.states.lay_out(trial.watched.start, trial.nursery.root)
        said = trial.nursery.run(
            trial.watched.words, point=(point["kind"], point["number"]), signal=int(signal.SIGTERM)
        )
        if said["code"] not in {0, INTERRUPTED} or "Traceback" in said["err"]:
            wrong.append(f"{what}: exit code {said['code']}: {said['err'][-1500:]}")
        wrong += [f"{what}: {path} is left" for path in leftovers(trial.nursery.root)]
        wrong += trial.goes_on_from(trial.states.keep(trial.nursery.root), what)
    assert not wrong, "\n".join(wrong)
