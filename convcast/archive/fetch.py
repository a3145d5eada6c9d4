"""Fetch: bring hours from the first source that has them into the archive, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Literal

import numpy as np

from convcast.archive import framing, locations
from convcast.archive.archive import Archive, Message, Sidecar, matches
from convcast.archive.failures import Absent, Bad, Failure, Incomplete, Transient
from convcast.archive.index import Span
from convcast.archive.sources import Source
from convcast.errors import DamagedFileError, MissingInputError
from convcast.files import sha256, whole_file
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import ArchiveSettings
from convcast.variables import STATIC, Variable

Status = Literal["ok", "cached", "late", "gap", "transient", "bad"]
STATIC_ATTEMPTS = 5
"""Hours whose file is asked for terrain and land mask before the run gives them up."""


@dataclass(frozen=True)
class Outcome:
    """What became of one hour.

    `ok` was fetched; `cached` was there already; `late` is young, and nowhere yet or not yet whole; `gap` is nowhere;
    `transient` could not be had now; `bad` is there and is not what it should be.
    """

    valid: Hour
    status: Status
    bytes: int = 0
    """Transferred; in an estimate, to be transferred."""
    messages: int = 0
    source: str = ""
    reason: str = ""


def fetch(
    archive: Archive,
    sources: Sequence[Source],
    hours: Hours | Sequence[Hour],
    *,
    variables: Sequence[Variable],
    lead: int,
    settings: ArchiveSettings,
    now: np.datetime64,
) -> Iterator[Outcome]:
    """Bring these valid hours into the archive; yields one outcome an hour, as they end.

    Raises MissingInputError where no source can be reached, or none has the static fields; DamagedFileError where
    simulated and real files would mix; OSError (a full disk) as it comes. What was complete stays.
    """
    archive.sweep()
    run = _Run(archive, sources, variables, lead, settings, now)
    yield from run.missing(hours, run.fetch)
    run.complete_static()


def estimate(
    archive: Archive,
    sources: Sequence[Source],
    hours: Hours | Sequence[Hour],
    *,
    variables: Sequence[Variable],
    lead: int,
    settings: ArchiveSettings,
    now: np.datetime64,
) -> Iterator[Outcome]:
    """What `fetch` would bring, by the indexes: the same outcomes, with messages and bytes; nothing is written."""
    run = _Run(archive, sources, variables, lead, settings, now)
    yield from run.missing(hours, run.estimate)


def verify_archive(archive: Archive) -> Iterator[Outcome]:
    """Hash every file again; yields `ok` or `bad` for each, with valid time NaT for the static fields.

    A bad file loses its sidecar, so that it no longer counts and the next fetch replaces it.
    """
    for path in archive.files():
        parsed = locations.parse_path(path.relative_to(archive.root).as_posix())
        valid = np.datetime64("NaT", "h") if parsed is None else parsed[0] + parsed[1] * HOUR
        try:
            sidecar = archive.sidecar(path)
            if not matches(path, sidecar):
                raise DamagedFileError(f"{path} is not what was fetched (its sha256 differs)")
        except DamagedFileError as error:
            archive.disown(path)
            yield Outcome(valid, "bad", reason=str(error))
        else:
            yield Outcome(valid, "ok", sidecar.bytes, len(sidecar.messages), sidecar.source)


class _Run:
    """One fetch: what its threads share."""

    def __init__(
        self,
        archive: Archive,
        sources: Sequence[Source],
        variables: Sequence[Variable],
        lead: int,
        settings: ArchiveSettings,
        now: np.datetime64,
    ) -> None:
        self.archive = archive
        self.sources = sources
        self.variables = tuple(variables)
        self.names = [variable.name for variable in variables]
        self.lead = lead
        self.settings = settings
        self.now = now
        self._end = None if settings.deadline is None else time.monotonic() + 60 * settings.deadline
        self._stopped = Event()
        self._admission = Lock()
        self._simulated: bool | None = None
        self._static = Lock()
        self._static_attempts = 0
        self._static_reason = ""

    def missing(self, hours: Hours | Sequence[Hour], work: Callable[[Hour], Outcome]) -> Iterator[Outcome]:
        """The hours that the archive has, as cached, then what `work` makes of the others."""
        wanted = []
        for valid in np.unique(np.asarray(hours, "datetime64[h]")):
            if self.archive.has(self.archive.path(valid, self.lead), self.names):
                yield Outcome(valid, "cached")
            else:
                wanted.append(valid)
        yield from self.each(wanted, work)

    def each(self, hours: Sequence[Hour], work: Callable[[Hour], Outcome]) -> Iterator[Outcome]:
        """The outcome of each hour, as they end; what has not begun when an error escapes never does."""
        pool = ThreadPoolExecutor(self.settings.workers, thread_name_prefix="fetch")
        try:
            for future in as_completed([pool.submit(self._guarded, valid, work) for valid in hours]):
                outcome = future.result()
                self._refuse_isolation()
                yield outcome
        except KeyboardInterrupt:
            for source in self.sources:
                source.close()
            raise
        finally:
            self._stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def fetch(self, valid: Hour) -> Outcome:
        path = self.archive.path(valid, self.lead)

        def bring(source: Source) -> Outcome:
            sidecar = self._bring(source, valid - self.lead * HOUR, self.variables, path)
            size = sidecar.bytes + self._bring_static(source, valid)
            return Outcome(valid, "ok", size, len(sidecar.messages), source.name)

        return self._first(valid, bring)

    def estimate(self, valid: Hour) -> Outcome:
        def count(source: Source) -> Outcome:
            located = source.locate(valid - self.lead * HOUR, self.lead, self.variables)
            return Outcome(valid, "ok", located.bytes, len(located.spans), source.name)

        return self._first(valid, count)

    def complete_static(self) -> None:
        """Fetch the static fields for an archive that has hours and not those."""
        for valid in self.archive.hours(self.lead)[:STATIC_ATTEMPTS]:
            for source in self.sources:
                if self.archive.has(self.archive.static, list(STATIC)):
                    return
                self._bring_static(source, valid)
        if len(self.archive.hours(self.lead)) and not self.archive.has(self.archive.static, list(STATIC)):
            raise MissingInputError(
                f"terrain and land mask are missing: {self._static_reason}", advice="run `convcast fetch` again"
            )

    def _guarded(self, valid: Hour, work: Callable[[Hour], Outcome]) -> Outcome:
        if self._stopped.is_set():
            return Outcome(valid, "transient", reason="the run was stopped")
        if self._end is not None and time.monotonic() > self._end:
            return Outcome(valid, "transient", reason="the run's deadline passed")
        return work(valid)

    def _first(self, valid: Hour, ask: Callable[[Source], Outcome]) -> Outcome:
        """The outcome at the first source that has the hour, or what the failures of all of them amount to."""
        failures: list[tuple[str, Failure]] = []
        for source in self.sources:
            try:
                return ask(source)
            except Failure as failure:
                failures.append((source.name, failure))
        reason = "; ".join(f"{name}: {failure}" for name, failure in failures)
        return Outcome(valid, self._verdict(valid, [failure for _, failure in failures]), reason=reason)

    def _verdict(self, valid: Hour, failures: Sequence[Failure]) -> Status:
        if any(isinstance(failure, Transient) for failure in failures):
            return "transient"
        age = (self.now - (valid - self.lead * HOUR)) / np.timedelta64(1, "h")
        young = age < self.settings.late_hours
        if young and all(isinstance(failure, Absent | Incomplete) for failure in failures):
            return "late"
        return "bad" if any(isinstance(failure, Bad) for failure in failures) else "gap"

    def _refuse_isolation(self) -> None:
        reasons = [source.unreachable for source in self.sources]
        if reasons and all(reasons):
            names = ", ".join(source.name for source in self.sources)
            raise MissingInputError(
                f"nothing can be fetched from {names}: {reasons[0]}",
                advice="mend the network, or go on with `--source <directory>` or `convcast demo`",
            )

    def _bring(self, source: Source, init: Hour, variables: Sequence[Variable], path: Path) -> Sidecar:
        """Copy, check and name one file; the sidecar comes last."""
        located = source.locate(init, self.lead, variables)
        with whole_file(path) as temporary:
            with open(temporary, "wb+") as file:
                version = source.copy(located, file)
                file.flush()
                simulated = framing.check(file, located.spans, init=init, lead=self.lead)
            sidecar = Sidecar(
                source=source.name,
                url=located.url,
                etag=version,
                ranges=located.ranges,
                messages=_messages(located.spans),
                bytes=located.bytes,
                sha256=sha256(temporary),
                simulated=simulated,
                fetched=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
            # An old sidecar must not vouch for the new file, should the run be killed between the two.
            self.archive.disown(path)
            self._admit(simulated)
        self.archive.record(path, sidecar)
        return sidecar

    def _admit(self, simulated: bool) -> None:
        with self._admission:
            if self._simulated is None:
                self._simulated = self.archive.simulated
            self.archive.admit(simulated, self._simulated)
            self._simulated = simulated

    def _bring_static(self, source: Source, valid: Hour) -> int:
        """Fetch terrain and land mask from this hour's file, if that is still to be done; returns the bytes."""
        with self._static:
            path = self.archive.static
            if self._static_attempts >= STATIC_ATTEMPTS or self.archive.has(path, list(STATIC)):
                return 0
            self._static_attempts += 1
            try:
                return self._bring(source, valid - self.lead * HOUR, tuple(STATIC.values()), path).bytes
            except Failure as failure:
                self._static_reason = str(failure)
                return 0


def _messages(spans: Sequence[Span]) -> tuple[Message, ...]:
    messages, offset = [], 0
    for span in spans:
        messages.append(Message(span.variable.name, offset, span.length))
        offset += span.length
    return tuple(messages)
