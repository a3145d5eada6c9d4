"""Access to Azure's copy of HRRR: open to all, yet every address needs a signature that expires.

Microsoft's Planetary Computer gives one without an account, and one serves for all files of a container
(https://planetarycomputer.microsoft.com/docs/concepts/sas/).
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from urllib.parse import quote, urlsplit

from convcast.archive.failures import Absent, Bad, Transient
from convcast.archive.http import Client

SERVICE = "https://planetarycomputer.microsoft.com/api/sas/v1/sign?href="
MARGIN = 300.0
"""Seconds before its end at which a signature is replaced."""


class SharedAccess:
    """Adds a valid signature to addresses, asked for when needed; all threads share one."""

    def __init__(self, client: Client, *, service: str = SERVICE) -> None:
        self._client = client
        self._service = service
        self._lock = threading.Lock()
        self._query = ""
        self._end = 0.0

    def __call__(self, url: str) -> str:
        """The address with its signature; raises Transient where none is to be had."""
        with self._lock:
            if time.time() > self._end - MARGIN:
                self._renew(url)
            return f"{url}?{self._query}"

    def _renew(self, url: str) -> None:
        try:
            answer = json.loads(self._client.text(self._service + quote(url, safe="")))
            query, end = urlsplit(answer["href"]).query, datetime.fromisoformat(answer["msft:expiry"]).timestamp()
        except (Absent, Bad, ValueError, KeyError, TypeError) as error:
            raise Transient(f"no access to Azure was given ({error})") from None
        if not query:
            raise Transient("no access to Azure was given")
        self._query, self._end = query, end
