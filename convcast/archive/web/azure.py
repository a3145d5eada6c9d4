"""Access to Azure's copy of HRRR, which is public but needs a signature in every address.

Microsoft's Planetary Computer issues signatures without an account; one is valid for a whole container
(https://planetarycomputer.microsoft.com/docs/concepts/sas/).
"""

from __future__ import annotations

import threading
import time
from urllib.parse import quote, urlsplit

from pydantic import AwareDatetime, BaseModel, Field

from convcast.archive.failures import STOPPED, Absent, Bad, Transient
from convcast.archive.web.http import Client

SERVICE = "https://planetarycomputer.microsoft.com/api/sas/v1/sign?href="
RENEWAL_MARGIN = 300.0
"""Seconds before its expiry at which a signature is renewed."""


class _Grant(BaseModel):
    """Answer of the Planetary Computer: a signature and its expiry."""

    href: str
    end: AwareDatetime = Field(alias="msft:expiry")


class SharedAccess:
    """Adds a valid signature to addresses, renewing it when needed; all threads share one."""

    def __init__(self, client: Client, *, service: str = SERVICE) -> None:
        self._client = client
        self._service = service
        self._lock = threading.Lock()
        self._query = ""
        self._end = 0.0

    @property
    def unreachable(self) -> str | None:
        """Why no signature can be obtained in this run, or None."""
        return self._client.unreachable

    def close(self, reason: str = STOPPED) -> None:
        """Stop requests for signatures; they fail for this reason."""
        self._client.close(reason)

    def __call__(self, url: str) -> str:
        """Return the address with a signature; raises Transient if none can be obtained."""
        with self._lock:
            if time.time() > self._end - RENEWAL_MARGIN:
                self._renew(url)
            return f"{url}?{self._query}"

    def _renew(self, url: str) -> None:
        try:
            grant = _Grant.model_validate_json(self._client.text(self._service + quote(url, safe="")))
            query = urlsplit(grant.href).query
        except (Absent, Bad, ValueError):
            raise Transient("no access to Azure was granted") from None
        if not query:
            raise Transient("no access to Azure was granted")
        self._query, self._end = query, grant.end.timestamp()
