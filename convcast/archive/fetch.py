"""Fetch files from the first source that has them into the archive, atomically."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Literal

import numpy as np

from convcast.archive import locations
from convcast.archive.archive import Archive, ArchivedMessage, Sidecar
from convcast.archive.failures import STOPPED, Absent, Bad, Failure, Incomplete, Transient
from convcast.archive.forcing import Forcing
from convcast.archive.locations import GribFile
from convcast.archive.messages import framing
from convcast.archive.messages.index import Span
from convcast.archive.messages.spec import fields
from convcast.archive.pool import GRACE, ThreadPool
from convcast.archive.request import Request
from convcast.archive.scans import is_near
from convcast.archive.sources import Source
from convcast.errors import DamagedFileError, MissingInputError
from convcast.files import sha256, sweep, whole_file
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import ArchiveSettings
from convcast.variables import STATIC, Variable, by_lead

Status = Literal["ok", "cached", "late", "gap", "transient", "bad"]
STATIC_ATTEMPTS = 5
"""Maximum number of hours whose files are tried for terrain and land mask."""


@dataclass(frozen=True)
class FetchOutcome:
    """Result of fetching one file, which for analyses is one hour.

    The status is `ok` (fetched), `cached` (already archived), `late` (recent and not yet published in full), `gap` (no
    source has it), `transient` (no source could be read now) or `bad` (damaged or not the requested file).
    """

    valid: Hour
    status: Status
    bytes: int = 0
    """Bytes transferred, or to be transferred in an estimate."""
    messages: int = 0
    source: str = ""
    reason: str = ""
    file: str = ""
    """Path of the file in the archive."""


def fetch(
    archive: Archive,
    sources: Sequence[Source],
    hours: Hours | Sequence[Hour],
    *,
    variables: Sequence[Variable],
    lead: int,
    settings: ArchiveSettings,
    now: np.datetime64,
    dewpoint: str = "analysis",
    forcing: Forcing | None = None,
    static: bool = True,
) -> Iterator[FetchOutcome]:
    """Fetch these valid hours of HRRR, and the static fields once, and yield one outcome per file as it ends.

    Complete files stay in the archive if an error is raised.

    Args:
        archive: Archive of HRRR's files.
        sources: Sources, which are tried in this order for each file.
        hours: Valid hours.
        variables: Fields to fetch.
        lead: Lead time of the files that serve as analyses, hours.
        settings: Timeouts, retries, and when a file counts as late.
        now: Current time, by which a file is late or absent.
        dewpoint: `analysis`, or `previous_f01`, for which an hour is two files (convcast.variables.by_lead).
        forcing: Forecasts that force a model started from these hours, to be fetched too.
        static: Whether to fetch the static fields.

    Raises:
        MissingInputError: No source can be reached, or none has the static fields.
        DamagedFileError: Simulated and real files would be mixed.
        OSError: The disk is full, for example.
    """
    sweep(archive.root)
    with _started(sources, settings, now) as run:
        yield from run.each(analyses(archive, hours, variables, lead, dewpoint, forcing), run.fetch)
        if static:
            run.complete_static(archive, min(by_lead(variables, lead, dewpoint)))


def fetch_files(
    requests: Sequence[Request], sources: Sequence[Source], *, settings: ArchiveSettings, now: np.datetime64
) -> Iterator[FetchOutcome]:
    """Fetch these files and yield one outcome per file as it ends.

    Args:
        requests: The files, each with its messages and its archive.
        sources: Sources, which are tried in this order for each file.
        settings: Timeouts, retries, and when a file counts as late.
        now: Current time, UTC, by which a file is late or absent.

    Raises:
        MissingInputError: No source can be reached.
        DamagedFileError: Simulated and real files would be mixed.
        OSError: The disk is full, for example.
    """
    for archive in _archives(requests):
        sweep(archive.root)
    with _started(sources, settings, now) as run:
        yield from run.each(requests, run.fetch)


def estimate(
    requests: Sequence[Request], sources: Sequence[Source], *, settings: ArchiveSettings, now: np.datetime64
) -> Iterator[FetchOutcome]:
    """Yield the outcomes that `fetch_files` would have, from the indexes, without writing anything.

    The arguments are those of `fetch_files`.
    """
    with _started(sources, settings, now) as run:
        yield from run.each(requests, run.estimate)


def analyses(
    archive: Archive,
    hours: Hours | Sequence[Hour],
    variables: Sequence[Variable],
    lead: int,
    dewpoint: str = "analysis",
    forcing: Forcing | None = None,
) -> tuple[Request, ...]:
    """Return requests for the HRRR files of these valid hours and of their forcing, in order and without repeats.

    The arguments are those of `fetch`.
    """
    specs = {at: fields(group) for at, group in by_lead(variables, lead, dewpoint).items()}
    valid_hours = np.unique(np.asarray(hours, "datetime64[h]"))
    requests = [
        Request(locations.hrrr(valid - at * HOUR, at), specs[at], archive) for valid in valid_hours for at in specs
    ]
    if forcing is None:
        return tuple(requests)
    # A file that holds the dewpoint of an analysis may force a model too, and is then fetched with all fields.
    forced = {request.path: request for request in forcing.requests(archive, valid_hours, variables)}
    return (*(request for request in requests if request.path not in forced), *forced.values())


def verify_archive(archive: Archive) -> Iterator[FetchOutcome]:
    """Hash every file again and yield `ok` or `bad` for each; the static fields have valid time NaT.

    The sidecar of a bad file is deleted, so that the next fetch replaces the file.
    """
    for path in archive.files():
        name = path.relative_to(archive.root).as_posix()
        file = locations.parse_path(name)
        valid = np.datetime64("NaT", "h") if file is None else file.valid
        try:
            sidecar = archive.sidecar(path)
            if sha256(path) != sidecar.sha256:
                raise DamagedFileError(f"{path} is not what was fetched (its sha256 differs)")
        except DamagedFileError as error:
            archive.remove_sidecar(path)
            yield FetchOutcome(valid, "bad", reason=str(error), file=name)
        else:
            yield FetchOutcome(valid, "ok", sidecar.bytes, len(sidecar.messages), sidecar.source, file=name)


class _Run:
    """State of one fetch that its threads share."""

    def __init__(
        self,
        sources: Sequence[Source],
        settings: ArchiveSettings,
        now: np.datetime64,
    ) -> None:
        self.sources = sources
        self.settings = settings
        self.now = now
        self._stopped = Event()
        self._stop_reason = STOPPED
        self._admission = Lock()
        self._simulated: dict[Path, bool | None] = {}

    def each(self, requests: Sequence[Request], work: Callable[[Request], FetchOutcome]) -> Iterator[FetchOutcome]:
        """Yield `cached` for the archived files, then the outcomes of `work` for the others, as they end.

        After an error, no further work is begun.
        """
        archives = _archives(requests)
        # No workspace holds both simulated and real files.
        kinds = [kind for archive in archives if (kind := archive.simulated) is not None]
        self._simulated = {archive.root: kinds[0] if kinds else None for archive in archives}
        missing = []
        for request in requests:
            if request.is_archived:
                yield _outcome(request, "cached")
            else:
                missing.append(request)
        models = {request.file.model: request.file for request in missing}.values()
        concerned = [source for source in self.sources if any(source.publishes(file) for file in models)]
        pool = ThreadPool(lambda request: self._guarded(request, work), missing, self.settings.workers, self._stopped)
        try:
            held = []
            for outcome in pool.results():
                _refuse_isolation(concerned)
                # If a source cannot be reached, perhaps none can; an error is then raised instead of these outcomes.
                if outcome.status == "transient" and any(source.unreachable for source in concerned):
                    held.append(outcome)
                else:
                    yield outcome
            yield from held
            for request in pool.unfinished():
                yield self._given_up(request)
        except KeyboardInterrupt:
            self.stop(STOPPED)
            pool.join(GRACE)
            raise
        except BaseException:
            self._stopped.set()
            pool.join()  # files that are being fetched are kept
            raise

    def fetch(self, request: Request) -> FetchOutcome:
        def copy(source: Source) -> FetchOutcome:
            sidecar = self._copy(source, request)
            reason = f"it has no {', '.join(sidecar.lacking)}" if sidecar.lacking else ""
            return _outcome(request, "ok", sidecar.bytes, len(sidecar.messages), source.name, reason)

        return self._first(request, copy)

    def estimate(self, request: Request) -> FetchOutcome:
        def count(source: Source) -> FetchOutcome:
            located = source.locate(request.file, request.specs, partial=request.partial)
            return _outcome(request, "ok", located.bytes, len(located.spans), source.name)

        return self._first(request, count)

    def complete_static(self, archive: Archive, lead: int) -> None:
        """Fetch terrain and land mask for an archive that has hours but lacks these.

        They are taken from the earliest hour that has them, since the dataset takes its grid from them.
        """
        if archive.has(archive.static, list(STATIC)):
            return
        pool = ThreadPool(lambda _: self._copy_static(archive, lead), [archive], 1, self._stopped)
        try:
            reasons = list(pool.results())
        except KeyboardInterrupt:
            self.stop(STOPPED)
            pool.join(GRACE)
            raise
        if reason := "".join(reasons) or (self._stop_reason if pool.unfinished() else ""):
            raise MissingInputError(
                f"terrain and land mask are missing: {reason}",
                advice="run `convcast fetch` again, or `convcast fetch --set dataset.ground=flat` to do without them",
            )

    def _copy_static(self, archive: Archive, lead: int) -> str:
        """Fetch the static fields; returns why they are missing, or an empty text."""
        reason = ""
        for valid in archive.hours(lead)[:STATIC_ATTEMPTS]:
            request = Request(locations.hrrr(valid - lead * HOUR, lead), fields(tuple(STATIC.values())), archive)
            for source in self.sources:
                try:
                    self._copy(source, request, archive.static)
                except Failure as failure:
                    reason = f"{source.name}: {failure}"
                else:
                    return ""
        return reason

    def stop(self, reason: str = "the run's deadline passed") -> None:
        """Stop all requests, waiting and running."""
        self._stop_reason = reason
        self._stopped.set()
        for source in self.sources:
            source.close(self._stop_reason)

    def _guarded(self, request: Request, work: Callable[[Request], FetchOutcome]) -> FetchOutcome:
        return self._given_up(request) if self._stopped.is_set() else work(request)

    def _given_up(self, request: Request) -> FetchOutcome:
        return _outcome(request, "transient", reason=self._stop_reason)

    def _first(self, request: Request, ask: Callable[[Source], FetchOutcome]) -> FetchOutcome:
        """Return the outcome of the first source that has the file, or one that sums up the failures of all sources."""
        failures: list[tuple[str, Failure]] = []
        for source in self.sources:
            try:
                return ask(source)
            except Failure as failure:
                failures.append((source.name, failure))
        reason = "; ".join(f"{name}: {failure}" for name, failure in failures)
        return _outcome(request, self._verdict(request.file, [failure for _, failure in failures]), reason=reason)

    def _verdict(self, file: GribFile, failures: Sequence[Failure]) -> Status:
        if any(isinstance(failure, Transient) for failure in failures):
            return "transient"
        age = (self.now - file.init) / HOUR
        young = age < self.settings.late_hours + locations.EXTRA_DELAY_HOURS[file.model]
        if young and all(isinstance(failure, Absent | Incomplete) for failure in failures):
            return "late"
        return "bad" if any(isinstance(failure, Bad) for failure in failures) else "gap"

    def _copy(self, source: Source, request: Request, path: Path | None = None) -> Sidecar:
        """Copy a file's messages, check them and name the file, then write the sidecar."""
        path = path or request.path
        request.archive.refuse_outside(path.parent)
        located = source.locate(request.file, request.specs, partial=request.partial)
        with whole_file(path) as temporary:
            with open(temporary, "wb+") as file:
                version = source.copy(located, file)
                file.flush()
                spans = located.stored(file.tell())
                near = is_near if request.file.model == "mrms" else None
                simulated = framing.check(file, spans, init=request.file.init, lead=request.file.lead, near=near)
            sidecar = Sidecar(
                source=source.name,
                url=located.url,
                etag=version,
                ranges=located.ranges,
                messages=_messages(spans),
                bytes=sum(span.length for span in spans),
                sha256=sha256(temporary),
                simulated=simulated,
                fetched=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                lacking=tuple(spec.name for spec in located.lacking),
            )
            # If the run is killed before the new sidecar is written, the old one must not be there.
            request.archive.remove_sidecar(path)
            self._admit(request.archive, simulated)
        request.archive.write_sidecar(path, sidecar)
        return sidecar

    def _admit(self, archive: Archive, simulated: bool) -> None:
        with self._admission:
            archive.refuse_mixing(simulated, self._simulated[archive.root])
            self._simulated = dict.fromkeys(self._simulated, simulated)


@contextmanager
def _started(sources: Sequence[Source], settings: ArchiveSettings, now: np.datetime64) -> Iterator[_Run]:
    """Start a run that stops at the deadline."""
    run = _Run(sources, settings, now)
    if settings.deadline is None:
        yield run
        return
    deadline = Timer(60 * settings.deadline, run.stop)
    deadline.daemon = True
    deadline.start()
    try:
        yield run
    finally:
        deadline.cancel()


def _refuse_isolation(sources: Sequence[Source]) -> None:
    """Raise MissingInputError if none of these sources can be reached."""
    reasons = [source.unreachable for source in sources]
    if reasons and all(reasons):
        names = ", ".join(source.name for source in sources)
        raise MissingInputError(
            f"nothing can be fetched from {names}: {reasons[0]}",
            advice="restore the network, or go on with `--source <directory>` or `convcast demo`",
        )


def _archives(requests: Sequence[Request]) -> list[Archive]:
    return list({request.archive.root: request.archive for request in requests}.values())


def _outcome(
    request: Request, status: Status, size: int = 0, messages: int = 0, source: str = "", reason: str = ""
) -> FetchOutcome:
    return FetchOutcome(request.file.valid, status, size, messages, source, reason, request.name)


def _messages(spans: Sequence[Span]) -> tuple[ArchivedMessage, ...]:
    messages, offset = [], 0
    for span in spans:
        messages.append(ArchivedMessage(span.spec.name, offset, span.length))
        offset += span.length
    return tuple(messages)
