"""Read files over HTTP, and retry transient errors.

Retries are made here and not by urllib3's Retry, which does not cover resets, truncation and stalls within the body.
Whatever a server sends, a request returns the requested bytes or raises one of the archive's failures.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError

from convcast.archive.failures import STOPPED, Absent, Bad, Failure, Incomplete, Transient
from convcast.archive.web.connections import MAX_REDIRECTS, Exchange, HttpSession
from convcast.settings import ArchiveSettings

FIRST_WAIT = 0.5
"""Seconds before the second attempt, on average; each further wait is twice as long."""
MAX_WAIT = 30.0
"""Maximum wait between attempts in seconds, whatever a server's Retry-After says."""
MIN_BYTES_PER_SECOND = 20_000
"""Minimum transfer rate; slower transfers count as stalled, since they may never reach the read timeout."""
CHUNK = 1 << 16
"""Bytes read at a time."""
MAX_INDEX_BYTES = 1 << 22
"""Maximum size of an index file, in bytes."""
_SIZE = r"[0-9]{1,15}"
"""Pattern of a file size in bytes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Version:
    """A server's identification of a file's version."""

    etag: str
    modified: str
    size: int | None

    @property
    def label(self) -> str | None:
        """The ETag, else Last-Modified, as sidecars have it."""
        return (self.etag or self.modified)[:MAX_LABEL_LENGTH] or None

    def may_be(self, other: Version) -> bool:
        """Return whether both can be the same version of a file.

        Servers that share an address may give a file different ETags; its size and time of change then decide.
        """
        if None not in (self.size, other.size) and self.size != other.size:
            return False
        if self.label is None or (self.etag and self.etag.removeprefix("W/") == other.etag.removeprefix("W/")):
            return True
        comparable = self.size is not None or not (self.etag and other.etag)
        return comparable and bool(self.modified) and self.modified == other.modified


MAX_LABEL_LENGTH = 256
"""Maximum length of a version label, in characters."""


class Client:
    """HTTP client of one server, shared by all threads of a run."""

    def __init__(
        self, settings: ArchiveSettings, *, auth: AuthBase | None = None, direct: bool = False, pause: float = 0.0
    ) -> None:
        """Create a client.

        Args:
            settings: Timeouts, retries and number of threads.
            auth: Credentials for the server.
            direct: Use no proxy.
            pause: Minimum time between the starts of two requests, seconds.
        """
        self._timeout = (settings.connect_timeout, settings.read_timeout)
        self._retries = settings.retries
        self._patience = settings.workers * (settings.retries + 1)
        self._session = HttpSession(auth, direct=direct, connections=settings.workers)
        self._pause, self._next, self._turn = pause, 0.0, threading.Lock()
        self._guard = threading.Lock()
        self._exchanges: set[Exchange] = set()
        self._reached = False
        self._missed = 0
        self._stopping = threading.Event()
        self._stop_reason = STOPPED
        self.unreachable: str | None = None
        """Why no connection could be made, once that is certain; further requests fail at once."""

    def close(self, reason: str = STOPPED) -> None:
        """Stop attempts, waits and transfers in all threads."""
        self._stop_reason = reason
        self._stopping.set()
        with self._guard:
            under_way = list(self._exchanges)
        for exchange in under_way:
            exchange.end()
        self._session.close()

    def text(self, url: str) -> str:
        """Read a small text file; raises Absent, Transient or Bad."""

        def attempt() -> bytes:
            with self._request("GET", url) as (response, exchange):
                if response.status_code != 200:
                    raise _refusal(response)
                if _is_page(response):
                    raise Bad("the server sent a web page instead of the index")
                declared = response.headers.get("Content-Length", "")
                expected = int(declared) if re.fullmatch(_SIZE, declared) else None
                if declared.isdecimal() and (expected is None or expected > MAX_INDEX_BYTES):
                    raise Bad(f"the index is {_brief(declared)} bytes long")
                return b"".join(self._body(response, exchange, expected))

        try:
            return self._retry(attempt).decode("ascii")
        except UnicodeDecodeError:
            raise Bad("the index is not text") from None

    def exists(self, url: str) -> bool:
        """Return whether the server has this file; raises Transient or Bad."""

        def attempt() -> bool:
            with self._request("HEAD", url) as (response, _):
                if response.status_code == 200:
                    return True
                failure = _refusal(response)
                if isinstance(failure, Absent):
                    return False
                raise failure

        return self._retry(attempt)

    def size_and_bytes(self, url: str, start: int, count: int) -> tuple[int, bytes]:
        """Return the size of a file and some of its bytes.

        Args:
            url: Address of the file.
            start: Offset of the first byte.
            count: Number of bytes.

        Raises:
            Absent: The server does not have the file.
            Transient: The file cannot be read now.
            Bad: The answer is not the requested bytes.
        """

        def attempt() -> tuple[int, bytes]:
            with self._request("GET", url, start, start + count - 1) as (response, exchange):
                size = _check_range(response, start, start + count - 1)
                if size is None:
                    raise Bad("the server does not say how large the file is")
                return size, b"".join(self._body(response, exchange, count))

        return self._retry(attempt)

    def copy(self, url: str, start: int, end: int, file: BinaryIO, *, version: Version | None = None) -> Version:
        """Append the bytes from `start` to before `end` of a file to `file`.

        Args:
            url: Address of the file.
            start: Offset of the first byte.
            end: Offset after the last byte.
            file: Where the bytes are written, from its current position; what follows there is cut off.
            version: The version that the file must have at the server; any by default.

        Returns:
            The version of the file at the server.

        Raises:
            Transient: The file is no longer of this version, or cannot be read now.
            Absent: The server does not have the file.
            Bad: The answer is not the requested bytes.
        """
        position = file.tell()

        def attempt() -> Version:
            file.seek(position)
            file.truncate()
            with self._request("GET", url, start, end - 1) as (response, exchange):
                size = _check_range(response, start, end - 1)
                current = Version(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""), size)
                if version is None or version.may_be(current):
                    for chunk in self._body(response, exchange, end - start):
                        file.write(chunk)
                return current

        current = self._retry(attempt)
        if version is not None and not version.may_be(current):
            raise Transient("the file was replaced while it was being read")
        return current

    @contextmanager
    def _request(
        self, method: str, url: str, first: int | None = None, last: int | None = None
    ) -> Iterator[tuple[requests.Response, Exchange]]:
        """Yield the answer, with its headers read and its body unread, and its exchange."""
        if self._pause:
            with self._turn:
                self._stopping.wait(max(0.0, self._next - time.monotonic()))
                self._next = time.monotonic() + self._pause
        with Exchange(sum(self._timeout)) as exchange, self._under_way(exchange):
            response = self._answer(exchange, method, url, {} if first is None else {"Range": f"bytes={first}-{last}"})
            with response:
                self._reached, self._missed = True, 0
                yield response, exchange

    def _answer(self, exchange: Exchange, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        try:
            response = self._session.request(method, url, headers=headers, timeout=self._timeout, stream=True)
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            if not exchange.connected:
                raise _Unreachable("the address, or the proxy that the environment names, cannot be used") from None
            raise Bad("the address that it redirects to cannot be used") from None
        except (requests.RequestException, HTTPError):
            if exchange.ended:
                raise Transient(self._reason("the server sent no whole answer in time")) from None
            raise
        except OSError as error:  # of a file: the CA bundle that the environment names
            raise _Unreachable(str(error)) from None
        except Exception as error:  # noqa: BLE001  whatever the libraries make of what a server sends is its fault
            raise Bad(f"the server's answer cannot be understood ({type(error).__name__})") from None
        if exchange.ended:
            # If the connection ends within the headers, urllib3 takes the headers so far for all of them.
            response.close()
            raise Transient(self._reason("the server sent no whole answer in time"))
        return response

    @contextmanager
    def _under_way(self, exchange: Exchange) -> Iterator[None]:
        """Let `close` end this exchange until the end of the block."""
        with self._guard:
            self._exchanges.add(exchange)
        try:
            if self._stopping.is_set():
                raise Transient(self._reason(STOPPED))
            yield
        finally:
            with self._guard:
                self._exchanges.discard(exchange)

    def _body(self, response: requests.Response, exchange: Exchange, expected: int | None) -> Iterator[bytes]:
        """Yield the body as it arrives; raises Transient if it is too short or too slow."""
        begun, received = time.monotonic(), 0
        most = MAX_INDEX_BYTES if expected is None else expected
        while True:
            exchange.allow(begun + self._timeout[1] + received / MIN_BYTES_PER_SECOND)
            try:
                chunk = response.raw.read1(CHUNK)
            except (requests.RequestException, HTTPError):
                if not exchange.ended:
                    raise
                chunk = b""
            except Exception as error:  # noqa: BLE001  as above
                raise Bad(f"the server's answer cannot be understood ({type(error).__name__})") from None
            if exchange.ended:
                raise Transient(self._reason(f"the transfer stalled after {received} bytes"))
            if not chunk:
                break
            received += len(chunk)
            if received > most:
                raise Bad("the server sent more bytes than requested")
            yield chunk
        if expected is not None and received != expected:
            raise Transient(f"the connection ended after {received} of {expected} bytes")

    def _reason(self, otherwise: str) -> str:
        """Return why an exchange was ended: by `close`, by its time limit, or else `otherwise`."""
        if self.unreachable is not None:
            return self.unreachable
        return self._stop_reason if self._stopping.is_set() else otherwise

    def _retry(self, attempt: Callable[[], T]) -> T:
        """Return what `attempt` returns, retrying after transient failures."""
        failure: Failure = Transient("no attempt was made")
        for number in range(self._retries + 1):
            if self.unreachable is not None:
                raise Transient(self.unreachable)
            if self._stopping.is_set():
                raise Transient(self._stop_reason)
            try:
                return attempt()
            except _Unreachable as error:
                self._mark_unreachable(str(error))
                raise
            except _Busy as error:
                failure, pause = error, error.pause
            except Transient as error:
                failure, pause = error, None
            except requests.TooManyRedirects:
                raise Bad(f"more than {MAX_REDIRECTS} redirects") from None
            except (requests.RequestException, HTTPError) as error:
                failure, pause = Transient(_clause(error)), None
                if _never_connected(error) and self._is_out_of_reach(number):
                    self._mark_unreachable(str(failure))
            if number < self._retries and self._stopping.wait(_wait(number) if pause is None else pause):
                break
        raise failure

    def _is_out_of_reach(self, number: int) -> bool:
        """Return whether a connection that failed at this attempt means that the server cannot be reached at all.

        A server that was never reached gets two attempts. One that was reached before gets as many failed attempts in a
        row as all threads together have.
        """
        with self._guard:
            self._missed += 1
            return self._missed >= self._patience if self._reached else number >= min(1, self._retries)

    def _mark_unreachable(self, reason: str) -> None:
        self.unreachable = reason
        self._stopping.set()


class _Unreachable(Transient):
    """The source cannot be reached from here."""


class _Busy(Transient):
    """The server is busy, and may say for how long to wait."""

    def __init__(self, message: str, pause: float | None) -> None:
        super().__init__(message)
        self.pause = pause


def _wait(number: int) -> float:
    return min(MAX_WAIT, FIRST_WAIT * 2.0**number) * random.uniform(0.5, 1.5)


def _refusal(response: requests.Response) -> Failure:
    """Convert an unexpected HTTP status to the failure that it means."""
    status = response.status_code
    if status in (404, 410):
        return Absent("not there")
    if status in (408, 429) or status >= 500:
        asked = response.headers.get("Retry-After", "")
        seconds = min(float(asked), MAX_WAIT) if re.fullmatch(r"[0-9]{1,9}", asked) else None
        return _Busy(f"the server answered {status}", seconds)
    if status in (401, 403):
        return Transient(f"the server refused access ({status})")
    return Bad(f"the server answered {status}")


def _check_range(response: requests.Response, first: int, last: int) -> int | None:
    """Check that the response has the requested bytes, and return the size of the whole file, if it is given."""
    if response.status_code == 416:
        raise Incomplete("the file is shorter than its index says")
    if response.status_code == 200:
        raise Bad(
            "the server sent a web page instead of the data"
            if _is_page(response)
            else "the server ignores Range requests"
        )
    if response.status_code != 206:
        raise _refusal(response)
    header = response.headers.get("Content-Range", "")
    match = re.fullmatch(rf"bytes ({_SIZE})-({_SIZE})/({_SIZE}|\*)", header)
    if match is None or int(match[1]) != first or int(match[2]) > last:
        raise Bad(f"bytes {first}-{last} were requested, and the server sent {_brief(header) or 'an unknown range'}")
    if int(match[2]) < last:
        raise Incomplete("the file is shorter than its index says")
    return None if match[3] == "*" else int(match[3])


def _is_page(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html")


def _brief(header: str) -> str:
    """Shorten a server's message to one line."""
    return header if len(header) <= 60 else header[:57] + "..."


def _never_connected(error: Exception) -> bool:
    kinds = requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError
    if isinstance(error, kinds):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError | NameResolutionError)


def _clause(error: Exception) -> str:
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy gives no connection"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be trusted"
    if _never_connected(error):
        return "no connection can be made"
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        return "the server went silent"
    return "the connection broke"
