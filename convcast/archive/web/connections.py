"""HTTP sessions with a time limit on each request, and without the machine's credentials.

requests carries the connection pool, redirects, proxies and CA bundles (its own environment variables). Its read
timeout begins again with every byte, so a server that sends its headers one byte at a time would hold a request for
ever. An Exchange knows the sockets of one request and shuts them down at its time limit, or when `end` is called.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from requests.utils import urldefragauth
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from convcast import __version__

MAX_REDIRECTS = 5
"""Maximum number of redirects of a request."""


class Exchange:
    """One request and its answer, with a time limit for connecting, redirects, headers and body together.

    It is a context: all connections that the thread makes, or takes from a pool, within it belong to the exchange.
    """

    def __init__(self, seconds: float) -> None:
        self._limit = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._guard = threading.Lock()
        self._over = threading.Event()
        self.ended = False
        """Whether the exchange was ended early or at its time limit; what was read since then is invalid."""

    def __enter__(self) -> Exchange:
        _here.exchange = self
        threading.Thread(target=self._watch, name="exchange", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _here.exchange = None
        self._over.set()
        with self._guard:
            for handle in self._sockets:
                handle.close()
            self._sockets.clear()

    @property
    def connected(self) -> bool:
        """Whether a connection was made."""
        return bool(self._sockets)

    def allow(self, until: float) -> None:
        """Move the limit to this time of the monotonic clock."""
        self._limit = until

    def end(self) -> None:
        """Shut the connections down, from any thread; reads that wait for them end."""
        with self._guard:
            self.ended = True
            for handle in self._sockets:
                _shut(handle)

    def adopt(self, connected: socket.socket) -> None:
        """Remember a connection by a duplicate of its descriptor, since TLS replaces the socket and pools close it."""
        handle = socket.socket(fileno=os.dup(connected.fileno()))  # a TLS socket has no `dup`
        with self._guard:
            self._sockets.append(handle)
            if self.ended:
                _shut(handle)

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._limit - time.monotonic())):
            if time.monotonic() >= self._limit:
                return self.end()
        return None


_here = threading.local()


def _shut(handle: socket.socket) -> None:
    with suppress(OSError):  # the server has closed it
        handle.shutdown(socket.SHUT_RDWR)


def _adopt(connected: socket.socket | None) -> None:
    exchange: Exchange | None = getattr(_here, "exchange", None)
    if exchange is not None and connected is not None:
        exchange.adopt(connected)


class _Connection(HTTPConnection):
    """A connection that belongs to the exchange of the thread that makes it or takes it from the pool."""

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        _adopt(connected)
        return connected

    def request(self, *args: Any, **options: Any) -> None:
        _adopt(self.sock)  # set if the connection is from the pool
        super().request(*args, **options)


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Build the answer without cookies, since an invalid one makes http.cookiejar print a traceback."""
        original = getattr(resp, "_original_response", None)
        if original is not None:
            del original.msg["Set-Cookie"], original.msg["Set-Cookie2"]
        return super().build_response(req, resp)


class _Anonymous(AuthBase):
    """Sends no credentials; without any `auth`, requests would read ~/.netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class HttpSession(requests.Session):
    """A session with the environment's proxies and CA bundles, and only the given credentials."""

    def __init__(self, auth: AuthBase | None = None, *, direct: bool = False, connections: int = 1) -> None:
        """Open a session.

        Args:
            auth: Credentials for the server; none by default.
            direct: Whether to use no proxy and no CA bundle of the environment.
            connections: Maximum number of connections to one server that are kept open.
        """
        super().__init__()
        self.trust_env = not direct
        self.auth = auth or _Anonymous()
        self.max_redirects = MAX_REDIRECTS
        self.headers.update({"User-Agent": f"convcast/{__version__}", "Accept-Encoding": "identity"})
        adapter = _Adapter(pool_connections=4, pool_maxsize=connections)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove the credentials if a redirect leads to another server. requests would also read ~/.netrc."""
        before, after = response.request.url or "", prepared_request.url or ""
        if "Authorization" in prepared_request.headers and self.should_strip_auth(before, after):
            del prepared_request.headers["Authorization"]

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the target of a redirect. Its body is left unread; requests would read it to its end."""
        if resp.is_redirect:
            resp.close()
        return super().get_redirect_target(resp)


def split_credentials(address: str) -> tuple[str, AuthBase | None]:
    """Split an address into one without credentials and the authentication for requests.

    Raises:
        ValueError: The text is not an http or https address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it has no host name")
    parts.port  # noqa: B018  raises ValueError if it is invalid
    if parts.username is None:
        return address, None
    user, password = unquote(parts.username), unquote(parts.password or "")
    return urldefragauth(address), HTTPBasicAuth(user.encode(), password.encode())
