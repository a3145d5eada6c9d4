"""One run of everything that is due, stage by stage, each a process of its own, until the work or the time is over."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from convcast.errors import ConvcastError, DiskFullError, from_os_error
from convcast.files import write_json
from convcast.operations import stages
from convcast.operations.holdings import VERIFICATION, Holdings, Surveyor, expected_hour
from convcast.operations.metrics import write_metrics
from convcast.operations.plan import Stage, Step, late_hours, next_step, possible_inits
from convcast.operations.publication import publish
from convcast.operations.retention import plan_prune, prune, sweep, take_stock
from convcast.operations.situation import Situation, assess, limits_of, reach, young

CODES = {0: "ok", 2: "unusable", 3: "incomplete", 4: "late", 5: "locked", 6: "damaged"}
"""Exit codes of the verbs, in words; any other is a failure."""
WORST_FIRST = (1, 2, 6, 3, 5, 4, 0)
INTERRUPTED = 130
QUIET = (0, 4, 5, INTERRUPTED)
"""Exit codes that nobody needs to be woken for."""
GIVE_UP = (1, 2, 5, 6)
"""Exit codes after which a stage would fail again in the same cycle."""


@dataclass(frozen=True)
class StageDone:
    """What became of one stage."""

    stage: Stage
    about: str
    """Of which hours, or what it found."""
    code: int
    outcome: str
    seconds: float
    said: str = ""
    """Its last words, where it did not end well."""


class Cycle:
    """Iterate over it for one StageDone a stage; then `code` and `entry` say what it amounts to."""

    def __init__(
        self,
        surveyor: Surveyor,
        clock: np.datetime64,
        *,
        words: Sequence[str] = (),
        fetch_words: Sequence[str] = (),
        sample_words: Sequence[str] = (),
    ) -> None:
        """`words` go to every verb, `fetch_words` and `sample_words` to those."""
        self.place, self.settings = surveyor.workspace, surveyor.settings
        self.limits = limits_of(self.settings)
        self.clock = clock
        self.expected = expected_hour(clock, self.settings.dataset.analysis_lead)
        self._surveyor = surveyor
        leads = ",".join(map(str, self.settings.operations.leads))
        ahead = ("--leads", leads) if leads else ()
        self._words = {"": tuple(words), "fetch": tuple(fetch_words), "sample": (*sample_words, *ahead)}
        self._begun = time.monotonic()
        self._until = self._begun + 60 * self.settings.operations.deadline
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._stages: list[StageDone] = []
        self._facts: dict[str, Any] = {}
        self._notes: list[str] = []
        self._unreachable = False
        self.code = 0
        self.entry: dict[str, Any] = {}
        self.situation: Situation | None = None

    def require_space(self) -> None:
        """Raises DiskFullError where the disk is too full to begin, even after pruning."""
        if self._free() >= self._least:
            return
        self._prune(self._survey())
        if self._free() < self._least:
            raise DiskFullError(
                f"{self._free() / 1e9:.2f} GB are free on the disk of {self.place.root}, and a cycle begins with "
                f"{self._least / 1e9:g} GB (operations.least_free)",
                advice="free some space, or keep less: retention.* (docs/operations.md)",
            )

    def __iter__(self) -> Iterator[StageDone]:
        try:
            yield from self._run()
        except KeyboardInterrupt:
            self._notes.append("interrupted")
            self.code = INTERRUPTED
            self._record(self._survey(), cut=True)
            raise

    def _run(self) -> Iterator[StageDone]:
        done: list[Step] = []
        barred: frozenset[Stage] = frozenset()
        while True:
            holdings = self._survey()
            step = next_step(holdings, self.limits, done, barred)
            if step is None:
                break
            late = self._left() <= 0 and step.stage not in ("publish", "prune")
            finished = self._skipped(step, holdings) if late else self._do(step, holdings)
            if finished.outcome == "deadline" or finished.code in GIVE_UP or self._unreachable:
                barred |= {step.stage}
            self._unreachable = False
            done.append(step)
            self._stages.append(finished)
            yield finished
        self._conclude(self._survey())

    @property
    def _least(self) -> float:
        return self.settings.operations.least_free * 1e9

    def _free(self) -> int:
        return shutil.disk_usage(self.place.root).free

    def _left(self) -> float:
        """Seconds for stages."""
        return self._until - time.monotonic()

    def _survey(self) -> Holdings:
        return self._surveyor.survey(self.expected, since=self.expected - reach(self.limits))

    def _skipped(self, step: Step, holdings: Holdings) -> StageDone:
        return StageDone(step.stage, _about(step, holdings), 0, "deadline", 0.0)

    def _do(self, step: Step, holdings: Holdings) -> StageDone:
        if step.stage == "publish":
            return self._here(step.stage, lambda: self._publish(holdings))
        if step.stage == "prune":
            return self._here(step.stage, lambda: self._prune(holdings))
        named = ["--name", VERIFICATION] if step.stage == "verify" else []
        words = [*step.words, *named, *self._words.get(step.stage, ()), *self._words[""], "--json", "-q"]
        ended = stages.run(
            [*words, "-w", str(self.place.root)], seconds=self._left(), grace=self.settings.operations.grace
        )
        code = ended.code if ended.code in CODES else 1
        done = StageDone(step.stage, _about(step, holdings), code, CODES.get(code, "failed"), ended.seconds)
        if ended.stopped:
            return replace(done, code=0, outcome="deadline")
        if step.stage == "fetch":
            done = self._judge_fetch(done, ended)
        if step.stage == "verify" and code == 0:
            kept = self._here("verify", self._keep_scores)
            done = replace(kept, seconds=round(kept.seconds + ended.seconds, 3))
        killed = f"killed by signal {-ended.code}. " if ended.code < 0 else ""
        return done if done.code == 0 else replace(done, said=done.said or f"{killed}{ended.said}")

    def _judge_fetch(self, done: StageDone, ended: stages.Finished) -> StageDone:
        """By what became of the hours: late ones are late, what could not be had or is bad is missing."""
        outcomes = ended.result.get("outcomes", [])
        self._unreachable = not outcomes  # another try would wait for the network as long
        of = {
            status: [o for o in outcomes if o["status"] == status]
            for status in ("late", "transient", "bad", "gap", "ok")
        }
        about = f"{done.about}, " + ", ".join(f"{len(found)} {status}" for status, found in of.items() if found)
        done = replace(done, about=about.removesuffix(", "))
        trouble = of["transient"] + of["bad"]
        if done.code == 0 and trouble:
            first = trouble[0]
            said = f"{first['valid']} {first['status']}: {first['reason']}"
            return replace(done, code=3, outcome=CODES[3], said=said)
        if done.code in (0, 4) and str(self.expected) in {one["valid"] for one in of["late"]}:
            return replace(done, code=4, outcome=CODES[4])
        return done if done.code != 4 else replace(done, code=0, outcome=CODES[0])

    def _here(self, stage: Stage, work: Callable[[], str]) -> StageDone:
        """Work that is no verb's, whose failure is contained as theirs are."""
        begun = time.monotonic()
        code, about, said = 0, "", ""
        try:
            about = work()
        except ConvcastError as error:
            code, said = error.exit_code, str(error)
        except OSError as error:
            expected = from_os_error(error)
            code, said = (expected.exit_code, str(expected)) if expected else (1, f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  a bug in one stage must not keep the journal from saying so
            code, said = 1, f"{type(error).__name__}: {error}"
        return StageDone(stage, about, code, CODES.get(code, "failed"), round(time.monotonic() - begun, 3), said)

    def _keep_scores(self) -> str:
        """Enter what was scored into the history."""
        import xarray as xr

        path = self.place.verification(VERIFICATION) / "scores.zarr"
        with xr.open_zarr(path, consolidated=False) as scores:
            return f"{self._surveyor.history.add(scores)} cases"

    def _publish(self, holdings: Holdings) -> str:
        newest = holdings.newest
        if newest is None:
            return "no forecast yet"
        said, new = publish(self.place, newest, holdings.forecasts[newest])
        if new:
            self._hook("on_publish", said)
        return str(newest)

    def _prune(self, holdings: Holdings) -> str:
        keep = self.settings.retention
        stock = take_stock(
            self.place,
            analysis_lead=self.settings.dataset.analysis_lead,
            dataset=math.isfinite(keep.dataset_hours),
        )
        went = prune(self.place, plan_prune(stock, holdings, self.limits, keep))
        swept = sweep(self.place, holdings.forecasts)
        self._facts["pruned"] = {**asdict(went), "swept": swept}
        return ", ".join(f"{count} of {room}" for room, count in went.counts.items()) or "nothing"

    def _conclude(self, holdings: Holdings) -> None:
        """What it all amounts to."""
        codes = {stage.code for stage in self._stages}
        cut = any(stage.outcome == "deadline" for stage in self._stages)
        if self.expected in late_hours(holdings, within=young(self.settings)):
            codes.add(4)
        newest = next(iter(possible_inits(holdings, self.limits)), None)
        if cut and newest is not None and holdings.newest != newest:
            codes.add(3)
            self._notes.append(f"the deadline passed before the forecast of {newest} was complete")
        if holdings.model is None:
            self._notes.append(f"no forecast: there is no model {self._surveyor.name}; run `convcast train`")
        self.code = next(code for code in WORST_FIRST if code in codes or code == 0)
        self._record(holdings, cut=cut)

    def _record(self, holdings: Holdings, *, cut: bool) -> None:
        """The journal entry, the metrics, and the command for failures."""
        self.situation = assess(self._surveyor, self.clock, holdings)
        ended = round(time.time(), 3)
        self.entry = {
            "started": self._started,
            "now": str(self.clock),
            "code": self.code,
            "outcome": CODES.get(self.code, "interrupted" if self.code == INTERRUPTED else "failed"),
            "deadline": cut,
            "seconds": round(time.monotonic() - self._begun, 3),
            "ended": ended,
            "succeeded": ended if self.code in (0, 4) else self.situation.last.get("succeeded"),
            "newest": None if self.situation.forecast is None else str(self.situation.forecast),
            "late": [str(hour) for hour in self.situation.late],
            "gaps": [str(hour) for hour in self.situation.gaps],
            "free_bytes": self.situation.free,
            "notes": self._notes,
            **self._facts,
            "stages": [asdict(stage) for stage in self._stages],
        }
        if self.code not in QUIET:
            self._hook("on_failure", {"workspace": str(self.place.root)} | self.entry)
        self.situation = replace(self.situation, last=self.entry)
        write_json(self.place.last_cycle, self.entry)
        write_metrics(self.place, self.situation)
        self.place.record("cycle", **self.entry)

    def _hook(self, name: str, document: dict[str, Any]) -> None:
        """Run the command of this setting; that it fails is noted, and is no failure of the cycle."""
        command = getattr(self.settings.operations, name)
        if not command:
            return
        seconds = self.settings.operations.hook_seconds
        try:
            ended = stages.run_command(command, seconds=seconds, grace=5, stdin=json.dumps(document, default=str))
        except OSError as error:
            self._notes.append(f"operations.{name}: {command[0]} cannot be run ({error.strerror})")
            return
        if ended.stopped:
            self._notes.append(f"operations.{name} took longer than {seconds:g} s and was stopped")
        elif ended.code:
            self._notes.append(f"operations.{name} ended with {ended.code}: {ended.said}")


def _about(step: Step, holdings: Holdings) -> str:
    match step.stage:
        case "fetch":
            return f"{step.hours[0]} to {step.hours[-1]}"
        case "sample":
            return str(step.hours[0])
        case "preprocess":
            return f"{len(holdings.unjudged)} hours"
        case "verify":
            return f"{len(step.cases)} due"
        case _:
            return ""
