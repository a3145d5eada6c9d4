"""Access to Azure's copy of HRRR: open to all, yet every address needs a signature that expires.

Microsoft's Planetary Computer gives one without an account, and one serves for all files of a container
(https://planetarycomputer.microsoft.com/docs/concepts/sas/).
"""

from __future__ import annotations

import threading
import time
from urllib.parse import quote, urlsplit

from pydantic import AwareDatetime, BaseModel, Field

from convcast.archive.failures import STOPPED, Absent, Bad, Transient
from convcast.archive.http import Client

SERVICE = "https://planetarycomputer.microsoft.com/api/sas/v1/sign?href="
RENEWAL_MARGIN = 300.0
"""Seconds before its end at which a signature is replaced."""


class _Grant(BaseModel):
    """What the Planetary Computer answers."""

    href: str
    end: AwareDatetime = Field(alias="msft:expiry")


class SharedAccess:
    """Adds a valid signature to addresses, asked for when needed; all threads share one."""

    def __init__(self, client: Client, *, service: str = SERVICE) -> None:
        self._client = client
        self._service = service
        self._lock = threading.Lock()
        self._query = ""
        self._end = 0.0

    @property
    def unreachable(self) -> str | None:
        """Why no signature can be had in this run, if so."""
        return self._client.unreachable

    def close(self, reason: str = STOPPED) -> None:
        self._client.close(reason)

    def __call__(self, url: str) -> str:
        """The address with its signature; raises Transient where none is to be had."""
        with self._lock:
            if time.time() > self._end - RENEWAL_MARGIN:
                self._renew(url)
            return f"{url}?{self._query}"

    def _renew(self, url: str) -> None:
        try:
            grant = _Grant.model_validate_json(self._client.text(self._service + quote(url, safe="")))
            query = urlsplit(grant.href).query
        except (Absent, Bad, ValueError):
            raise Transient("no access to Azure was given") from None
        if not query:
            raise Transient("no access to Azure was given")
        self._query, self._end = query, grant.end.timestamp()
