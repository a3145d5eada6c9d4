"""Bytes over HTTP, with patience for what passes and none for what is wrong.

requests carries the connection pool, redirects, proxies and CA bundles (its own environment variables). Attempts are
counted here and not in urllib3's Retry, which ends where the body begins: resets, truncation and stalls come later.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError

from convcast import __version__
from convcast.archive.failures import STOPPED, Absent, Bad, Failure, Incomplete, Transient
from convcast.settings import ArchiveSettings

FIRST_WAIT = 0.5
"""Seconds before the second attempt, on average; each further wait is twice as long."""
LONGEST_WAIT = 30.0
"""Seconds, whatever a server's Retry-After says."""
SLOWEST = 20_000
"""Bytes a second below which a transfer counts as stalled: one that drips never runs into the read timeout."""
CHUNK = 1 << 16
LONGEST_INDEX = 1 << 22
MOST_REDIRECTS = 5

T = TypeVar("T")


class Client:
    """One server, seen by all threads of a run."""

    def __init__(self, settings: ArchiveSettings, *, direct: bool = False, pause: float = 0.0) -> None:
        """`direct` goes past any proxy; `pause` is the least time between two requests, seconds."""
        self._timeout = (settings.connect_timeout, settings.read_timeout)
        self._retries = settings.retries
        self._session = requests.Session()
        self._session.trust_env = not direct
        self._session.max_redirects = MOST_REDIRECTS
        self._session.headers.update({"User-Agent": f"convcast/{__version__}", "Accept-Encoding": "identity"})
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=settings.workers)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._pace = _Pace(pause)
        self._reached = False
        self._stopping = threading.Event()
        self._stop_reason = STOPPED
        self.unreachable: str | None = None
        """Why no connection could be made, once that is certain; further requests fail at once."""

    def close(self, reason: str = STOPPED) -> None:
        """Stop attempts and waits in all threads."""
        self._stop_reason = reason
        self._stopping.set()
        self._session.close()

    def text(self, url: str) -> str:
        """A small text file, whole.

        Raises Absent, Transient or Bad.
        """
        return self._persist(lambda: self._text(url))

    def exists(self, url: str) -> bool:
        """Whether the server has this file.

        Raises Transient or Bad.
        """

        def attempt() -> bool:
            with self._request("HEAD", url) as response:
                if response.status_code == 200:
                    return True
                failure = _refusal(response)
                if isinstance(failure, Absent):
                    return False
                raise failure

        return self._persist(attempt)

    def size_and_bytes(self, url: str, start: int, count: int) -> tuple[int, bytes]:
        """The size of a file and `count` bytes of it; raises Absent, Transient or Bad."""

        def attempt() -> tuple[int, bytes]:
            with self._request("GET", url, start, start + count - 1) as response:
                size = _check_range(response, start, start + count - 1)
                if size is None:
                    raise Bad("the server does not say how large the file is")
                return size, b"".join(self._body(response, count))

        return self._persist(attempt)

    def copy(self, url: str, start: int, end: int, file: BinaryIO, *, version: str | None = None) -> str | None:
        """Append the bytes from `start` to before `end` to `file`; returns the version (ETag) they belong to.

        Raises Transient where the file there is no longer `version`, or cannot be had now; Absent; Bad.
        """
        position = file.tell()

        def attempt() -> str | None:
            file.seek(position)
            file.truncate()
            with self._request("GET", url, start, end - 1) as response:
                _check_range(response, start, end - 1)
                found = response.headers.get("ETag") or response.headers.get("Last-Modified")
                if version in (None, found):
                    for chunk in self._body(response, end - start):
                        file.write(chunk)
                return found

        found = self._persist(attempt)
        if version not in (None, found):
            raise Transient("the file was replaced while it was being read")
        return found

    def _text(self, url: str) -> str:
        with self._request("GET", url) as response:
            if response.status_code != 200:
                raise _refusal(response)
            if _is_page(response):
                raise Bad("a web page came in place of the index")
            declared = response.headers.get("Content-Length", "")
            expected = int(declared) if declared.isdecimal() else None
            if expected is not None and expected > LONGEST_INDEX:
                raise Bad(f"the index is {expected} bytes long")
            body = b"".join(self._body(response, expected))
        try:
            return body.decode("ascii")
        except UnicodeDecodeError:
            raise Bad("the index is not text") from None

    @contextmanager
    def _request(
        self, method: str, url: str, first: int | None = None, last: int | None = None
    ) -> Iterator[requests.Response]:
        self._pace.wait(self._stopping)
        headers = {} if first is None else {"Range": f"bytes={first}-{last}"}
        with self._session.request(
            method, url, headers=headers, timeout=self._timeout, stream=True, allow_redirects=True
        ) as response:
            self._reached = True
            yield response

    def _body(self, response: requests.Response, expected: int | None) -> Iterator[bytes]:
        """The body as it arrives; raises Transient where it is shorter or slower than it should be."""
        begun, received = time.monotonic(), 0
        most = LONGEST_INDEX if expected is None else expected
        while chunk := response.raw.read1(CHUNK):
            received += len(chunk)
            if received > most:
                raise Bad("more bytes came than were asked for")
            if self._stopping.is_set():
                raise Transient(self._stop_reason)
            if time.monotonic() - begun > self._timeout[1] + received / SLOWEST:
                raise Transient(f"the transfer stalled after {received} bytes")
            yield chunk
        if expected is not None and received != expected:
            raise Transient(f"the connection ended after {received} of {expected} bytes")

    def _persist(self, attempt: Callable[[], T]) -> T:
        """What `attempt` returns, tried again after every failure that may pass."""
        failure: Failure = Transient("no attempt was made")
        for number in range(self._retries + 1):
            if self.unreachable is not None:
                raise Transient(self.unreachable)
            if self._stopping.is_set():
                raise Transient(self._stop_reason)
            try:
                return attempt()
            except _Busy as error:
                failure, pause = error, error.pause
            except Transient as error:
                failure, pause = error, None
            except requests.TooManyRedirects:
                raise Bad(f"more than {MOST_REDIRECTS} redirects") from None
            except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
                raise Bad(f"the address cannot be used ({error})") from None
            except (requests.RequestException, HTTPError) as error:
                failure, pause = Transient(_clause(error)), None
                # Waiting out a network that is not there helps nobody: a server never reached gets two attempts.
                if not self._reached and number >= min(1, self._retries) and _never_connected(error):
                    self.unreachable = str(failure)
                    self._stopping.set()
            if number < self._retries and self._stopping.wait(_wait(number) if pause is None else pause):
                break
        raise failure


class _Busy(Transient):
    """The server asks for patience, perhaps for how much."""

    def __init__(self, message: str, pause: float | None) -> None:
        super().__init__(message)
        self.pause = pause


class _Pace:
    """Requests no closer to each other than this."""

    def __init__(self, pause: float) -> None:
        self._pause, self._next, self._lock = pause, 0.0, threading.Lock()

    def wait(self, stopping: threading.Event) -> None:
        if not self._pause:
            return
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._pause
        stopping.wait(turn - now)


def _wait(number: int) -> float:
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0**number) * random.uniform(0.5, 1.5)


def _refusal(response: requests.Response) -> Failure:
    """What a status other than the hoped-for one means."""
    status = response.status_code
    if status in (404, 410):
        return Absent("not there")
    if status in (408, 429) or status >= 500:
        seconds = response.headers.get("Retry-After", "")
        return _Busy(
            f"the server answered {status}", min(float(seconds), LONGEST_WAIT) if seconds.isdecimal() else None
        )
    if status in (401, 403):
        return Transient(f"the server refused access ({status})")
    return Bad(f"the server answered {status}")


def _check_range(response: requests.Response, first: int, last: int) -> int | None:
    """The size of the whole file, once the response is sure to be the bytes asked for."""
    if response.status_code == 416:
        raise Incomplete("the file is shorter than its index says")
    if response.status_code == 200:
        raise Bad("a web page came in place of the data" if _is_page(response) else "the server ignores Range requests")
    if response.status_code != 206:
        raise _refusal(response)
    header = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", header)
    if match is None or int(match[1]) != first or int(match[2]) > last:
        raise Bad(f"bytes {first}-{last} were asked for and {header or 'unnamed ones'} came")
    if int(match[2]) < last:
        raise Incomplete("the file is shorter than its index says")
    return None if match[3] == "*" else int(match[3])


def _is_page(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").startswith("text/html")


def _never_connected(error: Exception) -> bool:
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError | NameResolutionError)


def _clause(error: Exception) -> str:
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not answer"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate cannot be trusted"
    if _never_connected(error):
        return "no connection can be made"
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        return "the server went silent"
    return "the connection broke"
