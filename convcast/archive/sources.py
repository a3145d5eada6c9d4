"""Sources of GRIB files: NOAA's buckets, a server or a folder with the same layout, or the simulated archive.

A source locates the requested messages in a file, and copies their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol
from urllib.parse import quote

import numpy as np

from convcast.archive import locations, scans
from convcast.archive.failures import STOPPED, Absent, Bad, Incomplete
from convcast.archive.locations import GribFile
from convcast.archive.messages import framing
from convcast.archive.messages.index import UNKNOWN_END, Span, last_offset, merge, missing_messages, parse, select
from convcast.archive.messages.spec import MessageSpec
from convcast.errors import MissingInputError, NotPublishedError, SettingsError
from convcast.grib.sections import INDICATOR
from convcast.notation import HOUR, Hour, without_credentials
from convcast.settings import ArchiveSettings, Settings
from convcast.workspace import Workspace

if TYPE_CHECKING:
    from requests.auth import AuthBase

    from convcast.archive.web.azure import SharedAccess
    from convcast.archive.web.http import Client

SIMULATED = "simulated"
PUBLICATION_DELAY = np.timedelta64(60, "m")
"""Time from a cycle's init time to its first files, normally 50 to 55 minutes."""
NOMADS_PAUSE = 0.6
"""Seconds between requests: NOMADS blocks addresses that send more than 120 a minute."""
COPY_CHUNK = 1 << 16
"""Bytes copied at a time."""
SIMULATION_PATIENCE = 600.0
"""Read timeout of the simulated archive in seconds, which simulates weeks before it answers for its first hour."""


@dataclass(frozen=True)
class Located:
    """A file at a source, with the byte ranges of the requested messages."""

    url: str
    spans: tuple[Span, ...]
    lacking: tuple[MessageSpec, ...] = ()
    """Requested messages that the file does not have."""
    packed: bool = False
    """Whether the span is a whole gzip file. The length of its message is known only after it is unpacked."""

    def stored(self, size: int) -> tuple[Span, ...]:
        """Return the spans as they are in a copy of this size, in bytes."""
        return tuple(replace(span, start=0, end=size) for span in self.spans) if self.packed else self.spans

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        return merge(self.spans)

    @property
    def bytes(self) -> int:
        return sum(span.length for span in self.spans)


class Source(Protocol):
    """A source of GRIB files. Failures are those of convcast.archive.failures."""

    name: str

    @property
    def unreachable(self) -> str | None:
        """Why the source cannot be reached in this run, or None."""

    def publishes(self, file: GribFile) -> bool:
        """Return whether the source publishes files of this model and product."""

    def latest(self, lead: int) -> Hour | None:
        """Return the last valid hour of HRRR at this lead time (hours), or None if the source does not know it."""

    def locate(self, file: GribFile, specs: Sequence[MessageSpec], *, partial: bool = False) -> Located:
        """Find the messages in a file.

        Args:
            file: The file.
            specs: The messages.
            partial: Whether the file may lack some of the messages.

        Raises:
            Failure: The file cannot be read, or lacks a message (with `partial`, all of them).
        """

    def copy(self, located: Located, file: BinaryIO) -> str | None:
        """Write the located messages one after the other; returns the version (ETag) of the file; raises a Failure."""

    def close(self, reason: str = STOPPED) -> None:
        """Stop running requests; they fail for this reason."""


class WebSource:
    """A server with the layout of NOAA's buckets, with an index beside every file."""

    def __init__(
        self,
        name: str,
        client: Client,
        *,
        base: str | None = None,
        last: Hour | None = None,
        access: SharedAccess | None = None,
    ) -> None:
        """Create a source.

        Args:
            name: Name of the source, one of Herbie's unless `base` is given.
            client: HTTP client of the server.
            base: Address of the bucket.
            last: Last published hour, if it is known.
            access: Signs the addresses, if the server requires that.
        """
        self.name = name
        self._client = client
        self._base = base
        self._last = last
        self._access = access

    @property
    def unreachable(self) -> str | None:
        return self._client.unreachable or (self._access.unreachable if self._access else None)

    def publishes(self, file: GribFile) -> bool:
        return bool(self._urls(file))

    def latest(self, lead: int) -> Hour | None:
        return None if self._last is None else self._last + lead * HOUR

    def locate(self, file: GribFile, specs: Sequence[MessageSpec], *, partial: bool = False) -> Located:
        if file.model == "mrms":
            return self._nearest_scan(file, specs)
        url, text = self._index(file)
        rows = parse(text)
        spans, lacking = select(rows, specs, init=file.init, lead=file.lead)
        if lacking and not (partial and spans):
            raise missing_messages(lacking, file.lead)
        last = last_offset(rows)
        if lacking and spans[-1].start != last:
            # A truncated index also lacks rows, so only an index that reaches the end of the file counts.
            if last is None:
                raise Bad("the last row of the index cannot be read")
            self._closed(url, Span(lacking[0], last, UNKNOWN_END), last)
        return Located(url, tuple(self._closed(url, span, last) for span in spans), lacking)

    def _nearest_scan(self, file: GribFile, specs: Sequence[MessageSpec]) -> Located:
        folder = str(locations.bucket_path(file))
        for url in self._urls(file):
            base = url.removesuffix(folder)
            listed = [
                scan
                for prefix in scans.prefixes(file.init)
                for scan in scans.parse_listing(
                    self._client.text(f"{base}?list-type=2&prefix={quote(f'{folder}/{prefix}', safe='')}")
                )
            ]
            scan = scans.nearest(listed, file.init)
            return Located(base + scan.key, (Span(specs[0], 0, scan.size),), packed=True)
        raise Absent("it does not publish MRMS")

    def copy(self, located: Located, file: BinaryIO) -> str | None:
        version = None
        if located.packed:
            with BytesIO() as packed:
                version = self._client.copy(located.url, *located.ranges[0], packed)
                file.write(scans.unpack(packed.getvalue()))
            return version.label
        for start, end in located.ranges:
            version = self._client.copy(self._sign(located.url), start, end, file, version=version)
        return version.label if version else None

    def close(self, reason: str = STOPPED) -> None:
        self._client.close(reason)
        if self._access is not None:
            self._access.close(reason)

    def _sign(self, url: str) -> str:
        """Return the signed address, or the address itself if the server requires no signature; raises a Failure."""
        return url if self._access is None else self._access(url)

    def _index(self, file: GribFile) -> tuple[str, str]:
        """Return the address at which the file is found, and the text of its index."""
        absent = Absent(f"it does not publish {file.model.upper()}")
        for url in self._urls(file):
            try:
                return url, self._client.text(self._sign(url + locations.INDEX_SUFFIX))
            except Absent as error:
                if self._client.exists(self._sign(url)):
                    raise Incomplete("the file has no index") from None
                absent = error
        raise absent

    def _urls(self, file: GribFile) -> tuple[str, ...]:
        if self._base is None:
            return locations.urls(file).get(self.name, ())
        return (f"{self._base.rstrip('/')}/{locations.bucket_path(file)}",)

    def _closed(self, url: str, span: Span, last: int | None) -> Span:
        """Return the span with its end, which is read from the message's header if the index does not give it.

        The message at offset `last` must be the last of the file.
        """
        if span.end != UNKNOWN_END:
            return span
        size, start = self._client.size_and_bytes(self._sign(url), span.start, INDICATOR)
        end = span.start + framing.message_length(start)
        if end > size or (span.start == last and end != size):
            raise Incomplete("the index ends before the file does")
        return replace(span, end=end)


class DirectorySource:
    """A folder in the buckets' layout, with or without `conus/`. Messages are found by reading the files."""

    unreachable = None

    def __init__(self, root: Path) -> None:
        """Raises MissingInputError if the folder holds no file of HRRR, RRFS, REFS, HREF, HRRRCast or MRMS."""
        self.name = str(root)
        self._files: dict[GribFile, Path] = {}
        self._scans = [
            scans.Scan(path.relative_to(root).as_posix(), path.stat().st_size)
            for path in sorted(root.glob(f"{locations.SCANS}/????????/*.grib2*"))
        ]
        for pattern in ("*.????????/**/*.grib2", "HRRRCast/????????/??/*"):
            for path in sorted(root.glob(pattern), reverse=True):
                parsed = locations.parse_path(path.relative_to(root).as_posix())
                if parsed is not None:
                    self._files[parsed] = path
        if not self._files and not self._scans:
            raise MissingInputError(
                f"the folder {root} holds no HRRR files",
                advice="it should hold hrrr.YYYYMMDD/conus/hrrr.tHHz.wrfsfcfLL.grib2",
            )

    def publishes(self, file: GribFile) -> bool:  # noqa: ARG002
        return True

    def latest(self, lead: int) -> Hour | None:
        hrrr = [file for file in self._files if file.model == "hrrr"]
        valid = [file.valid for file in hrrr if file.lead == lead]
        if not valid:
            leads = ", ".join(map(str, sorted({file.lead for file in hrrr}))) or "none"
            raise MissingInputError(
                f"the folder {self.name} holds no HRRR files of lead {lead}, but of {leads}",
                advice=f"run `convcast fetch --source {self.name} --analysis-lead 1 --workspace another`",
            )
        return max(valid)

    def locate(self, file: GribFile, specs: Sequence[MessageSpec], *, partial: bool = False) -> Located:
        if file.model == "mrms" and file not in self._files:
            scan = scans.nearest(self._scans, file.init)
            return Located(f"{self.name}/{scan.key}", (Span(specs[0], 0, scan.size),), packed=True)
        path = self._files.get(file)
        if path is None:
            raise Absent("not there")
        try:
            with open(path, "rb") as opened:
                frames = list(framing.walk(opened))
        except OSError as error:
            raise Bad(f"the file cannot be read ({error.strerror})") from None
        near = scans.is_near if file.model == "mrms" else np.equal
        other_inits = [frame.init for frame in frames if not near(frame.init, file.init)]
        if other_inits:
            raise Bad(f"the file belongs to the cycle of {other_inits[0]}")
        spans, lacking = [], []
        for spec in specs:
            matching = [frame for frame in frames if frame.matches(spec, file.lead)]
            if len(matching) > 1:
                raise Bad(f"the file holds {spec.name} {len(matching)} times")
            if matching:
                spans.append(Span(spec, matching[0].offset, matching[0].offset + matching[0].length))
            else:
                lacking.append(spec)
        if lacking and not (partial and spans):
            raise missing_messages(lacking, file.lead)
        return Located(str(path), tuple(sorted(spans, key=lambda span: span.start)), tuple(lacking))

    def copy(self, located: Located, file: BinaryIO) -> str | None:
        with open(located.url, "rb") as whole:
            if located.packed:
                file.write(scans.unpack(whole.read()))
                return None
            for start, end in located.ranges:
                whole.seek(start)
                left = end - start
                while left and (chunk := whole.read(min(COPY_CHUNK, left))):
                    left -= len(chunk)
                    file.write(chunk)
        return None

    def close(self, reason: str = STOPPED) -> None:
        """Do nothing, since no request is left open."""


@contextmanager
def open_sources(names: Sequence[str], *, workspace: Workspace, settings: Settings) -> Iterator[tuple[Source, ...]]:
    """Open sources until the end of the block.

    Args:
        names: Names of the sources: aws, google, azure, nomads, simulated, a folder, or the address of a server with
            the layout of the bucket.
        workspace: Workspace with the files of the simulated archive.
        settings: Settings of the archive and the simulation.

    Raises:
        SettingsError: A name is none of these, or `simulated` is one of several.
        MissingInputError: A folder holds no files.
        DamagedFileError: The workspace holds another simulated world than that of the settings.
    """
    if not names:
        raise SettingsError("no source is named", advice="use --source aws")
    if SIMULATED in names and len(names) > 1:
        raise SettingsError("the simulated archive is never mixed with other sources", advice="use --source simulated")
    with ExitStack() as stack:
        sources: list[Source] = []
        for name in names:
            source = _open(name, workspace, settings, stack)
            stack.callback(source.close)
            sources.append(source)
        yield tuple(sources)


def latest(sources: Sequence[Source], *, lead: int = 0, now: np.datetime64 | None = None) -> Hour:
    """Return the last valid hour that should be published, by the first source that knows it, or else by the clock.

    Args:
        sources: Sources of the files.
        lead: Lead time of the files, hours.
        now: Current time, by default that of the clock.

    Raises:
        NotPublishedError: There are no sources.
    """
    if not sources:
        raise NotPublishedError("no source is given, so that the latest hour is unknown")
    for source in sources:
        valid = source.latest(lead)
        if valid is not None:
            return valid
    time = np.datetime64("now") if now is None else now
    init: Hour = (time.astype("datetime64[s]") - PUBLICATION_DELAY).astype("datetime64[h]")
    return init + lead * HOUR


def kind_of(name: str) -> Literal["cloud", "simulated", "address", "folder"]:
    """Return the kind of a source by its name; raises SettingsError for an unknown name."""
    if name in locations.CLOUDS:
        return "cloud"
    if name == SIMULATED:
        return "simulated"
    if name.startswith(("http://", "https://")):
        return "address"
    if Path(name).expanduser().is_dir():
        return "folder"
    known = (*locations.CLOUDS, SIMULATED)
    shown = re.sub(r"^[^/\s]*:\S*@", "", without_credentials(name))
    close = get_close_matches(name, known, n=1)
    raise SettingsError(
        f"there is no source or folder {shown!r}",
        advice=f"did you mean {close[0]}?" if close else f"use {', '.join(known)}, a folder or a web address",
    )


def split_address(name: str) -> tuple[str, AuthBase | None]:
    """Split a source's address into one without credentials, which can be shown, and the authentication for requests.

    Raises:
        SettingsError: The text is not an address to which file paths can be added.
    """
    from convcast.archive.web.connections import split_credentials

    try:
        base, auth = split_credentials(name)
        if re.search(r"[?#\s]", name):
            raise ValueError("paths are added to it, so it has no ?, # or spaces")
    except ValueError as error:
        reason = str(error).partition(":")[0]  # the rest of the message may contain a part of the password
        raise SettingsError(
            f"the address of a source cannot be used ({reason})",
            advice="write https://host/path; a /, ?, # or @ in a password is written %2F, %3F, %23 or %40",
        ) from None
    return base, auth


def _open(name: str, workspace: Workspace, settings: Settings, stack: ExitStack) -> Source:
    from convcast.archive.web.azure import SharedAccess
    from convcast.archive.web.http import Client

    archive, kind = settings.archive, kind_of(name)
    if kind == "cloud":
        locations.prepare()
        client = Client(archive, pause=NOMADS_PAUSE if name == "nomads" else 0.0)
        return WebSource(name, client, access=SharedAccess(Client(archive)) if name == "azure" else None)
    if kind == "simulated":
        from convcast.archive.simulated.publisher import Publisher
        from convcast.archive.simulated.server import serve

        locations.prepare()
        publisher = Publisher(workspace.simulated, settings.simulation)
        stack.callback(publisher.keep_state)
        server = stack.enter_context(serve(workspace.simulated, publish=publisher.publish))
        patient: ArchiveSettings = archive.model_copy(update={"read_timeout": SIMULATION_PATIENCE})
        return WebSource(SIMULATED, Client(patient, direct=True), base=server.url, last=publisher.last)
    if kind == "address":
        locations.prepare()
        base, auth = split_address(name)
        return WebSource(base, Client(archive, auth=auth), base=base)
    return DirectorySource(Path(name).expanduser())
