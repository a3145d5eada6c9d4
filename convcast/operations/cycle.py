"""The hourly cycle: run each stage that is due in a process of its own, until nothing is due or time is up."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from convcast.archive.locations import parse_path
from convcast.errors import ConvcastError, DamagedFileError, DiskFullError, from_os_error
from convcast.files import write_bytes, write_json
from convcast.notation import Hour
from convcast.operations import stages
from convcast.operations.alerts import send_alerts
from convcast.operations.hooks import Hooks
from convcast.operations.inventory import DESCRIPTION, VERIFICATION, Inventory, InventoryReader, expected_hour
from convcast.operations.plan import Stage, Step, late_hours, next_step, possible_inits, reference_fetches
from convcast.operations.prometheus import metrics
from convcast.operations.publish import publish
from convcast.operations.retention import list_stored_files, plan_prune, prune, sweep
from convcast.operations.stages import CODES, GIVE_UP, INTERRUPTED, QUIET, StageResult, in_words, worst
from convcast.operations.status import assess, cycle_limits, late_window, lookback


class Cycle:
    """One cycle. Iterating runs it and yields one StageResult per stage; `code` and `entry` then hold its outcome."""

    def __init__(
        self,
        reader: InventoryReader,
        clock: np.datetime64,
        *,
        words: Sequence[str] = (),
        fetch_words: Sequence[str] = (),
        sample_words: Sequence[str] = (),
        rehearsal: bool = False,
    ) -> None:
        """Prepare a cycle.

        Args:
            reader: Reads the inventory of the workspace.
            clock: Time to take for now, UTC.
            words: Further command-line words for every verb.
            fetch_words: Further words for `convcast fetch`.
            sample_words: Further words for `convcast sample`.
            rehearsal: Whether the workspace may hold forecasts later than `clock`, which are not verified.
        """
        self.workspace, self.settings = reader.workspace, reader.settings
        self.limits = cycle_limits(self.settings)
        self.clock = clock
        self.expected = expected_hour(clock, self.settings.dataset.analysis_lead)
        self._reader = reader
        leads = ",".join(map(str, self.settings.operations.leads))
        ahead = ("--leads", leads) if leads else ()
        self._words = {"": tuple(words), "fetch": tuple(fetch_words), "sample": (*sample_words, *ahead)}
        if rehearsal:
            first = self.expected - lookback(self.limits)
            self._words["verify"] = ("--init", f"{first}/{self.expected}/1h")
        self._begun = time.monotonic()
        self._until = self._begun + 60 * self.settings.operations.deadline
        self._started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._stages: list[StageResult] = []
        self._facts: dict[str, Any] = {}
        self._notes: list[str] = []
        self._unreachable = False
        self._hooks = Hooks(self.settings.operations)
        self.code = 0
        self._seen = Inventory(self.expected)
        self.entry: dict[str, Any] = {}

    def __iter__(self) -> Iterator[StageResult]:
        """Run the cycle; an error that ends it early is recorded in the journal and raised.

        Raises:
            DiskFullError: The disk is too full to begin, even after pruning.
        """
        try:
            self._require_space()
            yield from self._run()
        except (Exception, KeyboardInterrupt) as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            self.code = INTERRUPTED if interrupted else getattr(error, "exit_code", 1)
            self._notes.append("interrupted" if interrupted else str(error) or type(error).__name__)
            self._record(cut=True)
            raise

    def _require_space(self) -> None:
        least = self.settings.operations.least_free * 1e9
        if self._free() < least:
            self._prune(self._read_inventory())
        if self._free() < least:
            raise DiskFullError(
                f"{self._free() / 1e9:.2f} GB are free on the disk of {self.workspace.root}, and a cycle begins with "
                f"{least / 1e9:g} GB (operations.least_free)",
                advice="free some space, or run `convcast cycle --set retention.forecasts_days=7`",
            )

    def _run(self) -> Iterator[StageResult]:
        done: list[Step] = []
        excluded: frozenset[Stage] = frozenset()
        while True:
            inventory = self._read_inventory()
            step = next_step(inventory, self.limits, done, excluded)
            if step is None:
                break
            if self._seconds_left() <= 0 and step.stage not in ("publish", "prune"):
                finished = StageResult(step.stage, _about(step, inventory), 0, "deadline", 0.0)
            else:
                finished = self._do(step, inventory)
            if finished.outcome == "deadline" or finished.code in GIVE_UP or self._unreachable:
                excluded |= {step.stage}
            self._unreachable = False
            done.append(step)
            self._stages.append(finished)
            yield finished
        self._conclude(self._read_inventory())

    def _free(self) -> int:
        return shutil.disk_usage(self.workspace.root).free

    def _seconds_left(self) -> float:
        """Return the seconds left for stages before the deadline."""
        return self._until - time.monotonic()

    def _read_inventory(self) -> Inventory:
        self._seen = self._reader.read(self.expected, since=self.expected - lookback(self.limits))
        return self._seen

    def _do(self, step: Step, inventory: Inventory) -> StageResult:
        if step.stage == "publish":
            return self._publish(inventory)
        if step.stage == "prune":
            return self._run_here(step.stage, lambda: self._prune(inventory))
        named = ["--name", VERIFICATION] if step.stage == "verify" else []
        waiting = self._fetch_references(step.cases) if step.stage == "verify" else []
        words = [*step.words, *named, *self._words.get(step.stage, ()), *self._words[""], "--json", "-q"]
        ended = stages.run(
            [*words, "-w", str(self.workspace.root)], seconds=self._seconds_left(), grace=self.settings.operations.grace
        )
        # A stage that was told to end is unfinished, which is not a bug.
        code = 3 if ended.code == INTERRUPTED else ended.code if ended.code in CODES else 1
        done = StageResult(step.stage, _about(step, inventory), code, in_words(code), ended.seconds)
        if ended.stopped:
            return replace(done, code=0, outcome="deadline")
        if step.stage == "fetch":
            done = self._judge_fetch(done, ended)
        if step.stage == "sample":
            self._notes += map(str, ended.result.get("notes", []))
        if step.stage == "verify" and (code == 0 or ended.result.get("report")):
            kept = self._run_here("verify", self._keep_scores)
            kept = replace(kept, seconds=round(kept.seconds + ended.seconds, 3))
            # A damaged forecast sets the exit code, and the others are still scored.
            done = kept if code == 0 or kept.code else replace(done, about=kept.about, seconds=kept.seconds)
        if code == 3 and waiting and not ended.result.get("report"):
            return replace(
                done, code=0, about=f"{done.about}, which wait for {' and '.join(waiting)}", outcome=in_words(0)
            )
        killed = f"killed by signal {-ended.code}. " if ended.code < 0 else ""
        return done if done.code == 0 else replace(done, error=done.error or f"{killed}{ended.stderr}")

    def _fetch_references(self, cases: frozenset[tuple[Hour, int]]) -> list[str]:
        """Fetch what verification of these cases needs, and return the names of what is not published yet.

        A failure is noted and does not fail the cycle: verification leaves out the cases that lack the files, and
        reports it.
        """
        options, late = self.settings.verification, self.settings.dataset.analysis_lead
        waiting = []
        fetches = reference_fetches((*options.against, *options.truths), cases, ages=options.lagged_ages, late=late)
        for what, words in fetches.items():
            if self._seconds_left() <= 0:
                break
            more = (*self._words["fetch"], *self._words[""], "--json", "-q", "-w", str(self.workspace.root))
            ended = stages.run([*words, *more], seconds=self._seconds_left(), grace=self.settings.operations.grace)
            missing = [one for one in ended.result.get("outcomes", []) if one["status"] not in ("ok", "cached")]
            if any(one["status"] == "late" for one in missing) or ended.code == 4:
                waiting.append(what)
            elif missing or ended.code != 0:
                reason = "{valid} {status}: {reason}".format_map(missing[0]) if missing else ended.stderr
                self._notes.append(f"{what} to verify with: {reason}")
        return waiting

    def _judge_fetch(self, done: StageResult, ended: stages.ProcessResult) -> StageResult:
        """Set the exit code of fetching by its hours: late, or missing if one is unavailable or bad."""
        outcomes = ended.result.get("outcomes", [])
        analyses = [outcome for outcome in outcomes if self._is_analysis(outcome)]
        self._unreachable = not outcomes  # another attempt would wait for the network as long
        by_status = {
            status: [outcome for outcome in outcomes if outcome["status"] == status]
            for status in ("late", "transient", "bad", "gap", "ok")
        }
        counts = (f"{len(those)} {status}" for status, those in by_status.items() if those)
        done = replace(done, about=", ".join([done.about, *counts]))
        trouble = by_status["transient"] + by_status["bad"]
        if done.code == 0 and trouble:
            reason = "{valid} {status}: {reason}".format_map(trouble[0])
            return replace(done, code=3, outcome=in_words(3), error=reason)
        if done.code in (0, 4) and str(self.expected) in {o["valid"] for o in analyses if o["status"] == "late"}:
            return replace(done, code=4, outcome=in_words(4))
        return done if done.code != 4 else replace(done, code=0, outcome=in_words(0))

    def _is_analysis(self, outcome: dict[str, Any]) -> bool:
        """Return whether a fetched file holds an analysis, and not a forecast that forces the model."""
        file = parse_path(str(outcome.get("file", "")))
        return file is None or file.lead in self.settings.dataset.leads

    def _run_here(self, stage: Stage, work: Callable[[], str]) -> StageResult:
        """Run work in this process and return its result; an error becomes an exit code, as it does in a verb."""
        begun = time.monotonic()
        code, about, message = 0, "", ""
        try:
            about = work()
        except Exception as error:  # noqa: BLE001  a bug in one stage must not keep the journal from saying so
            expected = from_os_error(error) if isinstance(error, OSError) else error
            code, message = 1, f"{type(error).__name__}: {error}"
            if isinstance(expected, ConvcastError):
                code, message = expected.exit_code, str(expected)
        return StageResult(stage, about, code, in_words(code), round(time.monotonic() - begun, 3), message)

    def _keep_scores(self) -> str:
        """Add the new scores to the score history."""
        import xarray as xr

        path = self.workspace.verification(VERIFICATION) / "scores.zarr"
        # Without chunks, since dask would import its scheduler.
        with xr.open_zarr(path, chunks=None, zarr_format=3, consolidated=False) as scores:
            return f"{self._reader.history.add(scores)} cases"

    def _publish(self, inventory: Inventory) -> StageResult:
        """Publish latest.json, the alerts and the page. Each is independent: one failing does not stop the others."""
        newest = inventory.newest
        if newest is None:
            return self._run_here("publish", lambda: "no forecast yet")
        published: list[dict[str, Any]] = []

        def point() -> str:
            document, is_new = publish(self.workspace, newest, inventory.forecasts[newest])
            published.extend([document] if is_new else [])
            return str(newest)

        def warn() -> str:
            points = self.settings.operations.on_threshold.points
            self._notes += send_alerts(self.workspace, newest, points, self._hooks.alerted) if points else []
            return str(newest)

        def draw() -> str:
            from convcast.operations.page import write_page

            history, options = self._reader.history, self.settings.operations
            write_page(
                self.workspace,
                newest,
                inventory.forecasts[newest].leads,
                history,
                max_age=options.page_max_age,
                fields=options.page_fields,
                near=self.settings.products.neighbourhood,
            )
            return str(newest)

        done = [self._run_here("publish", work) for work in (point, warn, draw)]
        for document in published:  # after the page is written, since the command may copy it
            self._notes += self._hooks.published(document)
        bad = worst(one.code for one in done)
        first = next(one for one in done if one.code == bad)
        return replace(first, seconds=round(sum(one.seconds for one in done), 3))

    def _prune(self, inventory: Inventory) -> str:
        keep = self.settings.retention
        stock = list_stored_files(
            self.workspace,
            analysis_lead=self.settings.dataset.analysis_lead,
            dataset=math.isfinite(keep.dataset_hours),
        )
        pruned = prune(self.workspace, plan_prune(stock, inventory, self.limits, keep))
        swept = sweep(self.workspace, inventory.forecasts)
        self._facts["pruned"] = {**asdict(pruned), "swept": swept}
        return ", ".join(f"{count} of {folder}" for folder, count in pruned.counts.items()) or "nothing"

    def _conclude(self, inventory: Inventory) -> None:
        """Set the exit code and notes of the whole cycle, and record it."""
        codes = {stage.code for stage in self._stages}
        self._notes += inventory.left_alone
        if any(path.name == DESCRIPTION for path in inventory.ignored_files):
            codes.add(DamagedFileError.exit_code)
        cut = any(stage.outcome == "deadline" for stage in self._stages)
        if self.expected in late_hours(inventory, within=late_window(self.settings)):
            codes.add(4)
        newest = next(iter(possible_inits(inventory, self.limits)), None)
        if cut and newest is not None and inventory.newest != newest:
            codes.add(3)
            self._notes.append(f"the deadline passed before the forecast of {newest} was complete")
        if inventory.model is None:
            self._notes.append(f"no forecast: there is no model {self._reader.name}; run `convcast train`")
        self.code = worst(codes)
        self._record(cut=cut)

    def _record(self, *, cut: bool) -> None:
        """Write the journal entry and the metrics, and report a failure, from the last inventory read."""
        status = assess(self._reader, self.clock, self._seen)
        ended = round(time.time(), 3)
        self.entry = {
            "started": self._started,
            "now": str(self.clock),
            "code": self.code,
            "outcome": in_words(self.code),
            "deadline": cut,
            "seconds": round(time.monotonic() - self._begun, 3),
            "ended": ended,
            "succeeded": ended if self.code in (0, 4) else status.last.get("succeeded"),
            "newest": None if status.forecast is None else str(status.forecast),
            "late": [str(hour) for hour in status.late],
            "gaps": [str(hour) for hour in status.gaps],
            "free_bytes": status.free,
            "notes": self._notes,
            **self._facts,
            "stages": [asdict(stage) for stage in self._stages],
        }
        if self.code not in QUIET:
            self._notes += self._hooks.failed({"workspace": str(self.workspace.root)} | self.entry)
        write_json(self.workspace.last_cycle, self.entry)
        write_bytes(self.workspace.metrics, metrics(replace(status, last=self.entry)))
        self.workspace.record("cycle", **self.entry)


def _about(step: Step, inventory: Inventory) -> str:
    match step.stage:
        case "fetch":
            return f"{step.hours[0]} to {step.hours[-1]}"
        case "sample":
            return str(step.hours[0])
        case "preprocess":
            forecasts = len(inventory.unprocessed_forecasts)
            return f"{len(inventory.unprocessed)} hours" + (f", {forecasts} HRRR forecasts" if forecasts else "")
        case "verify":
            return f"{len(step.cases)} due"
        case _:
            return ""
