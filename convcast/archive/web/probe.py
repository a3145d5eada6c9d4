"""Check whether a source answers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import numpy as np
import requests

from convcast.archive import locations
from convcast.archive.sources import split_address
from convcast.archive.web.connections import Exchange, HttpSession
from convcast.notation import HOUR
from convcast.settings import ArchiveSettings

if TYPE_CHECKING:
    from requests.auth import AuthBase


@dataclass(frozen=True)
class Answer:
    """Result of one request."""

    seconds: float
    error: str | None = None
    """Reason why there is no answer, or the server's failure; None for any other answer, such as 404."""
    clock: float | None = None
    """The server's time, seconds since 1970, or None if the answer has none."""


def probe(name: str, settings: ArchiveSettings) -> Answer:
    """Request yesterday's index, which need not exist, once from aws, google, azure, nomads or a web address."""
    auth: AuthBase | None = None
    if name in locations.CLOUDS:
        locations.prepare()
        hour = np.datetime64("now").astype("datetime64[h]") - 24 * HOUR
        url = locations.urls(locations.hrrr(hour, 0))[name][0] + locations.INDEX_SUFFIX
    else:
        url, auth = split_address(name)
    timeout = (settings.connect_timeout, settings.read_timeout)
    started = time.monotonic()
    with HttpSession(auth) as session, Exchange(sum(timeout)) as exchange:
        try:
            response = session.head(url, timeout=timeout, allow_redirects=False)
        except (requests.RequestException, OSError, ValueError) as error:
            reason = "in time" if exchange.ended else f"({type(error).__name__})"
            return Answer(time.monotonic() - started, f"no answer {reason}")
    seconds = time.monotonic() - started
    if exchange.ended:
        return Answer(seconds, "no answer in time")
    if response.status_code >= 500:
        return Answer(seconds, f"answers {response.status_code}")
    return Answer(seconds, None, _clock(response.headers.get("Date", "")))


def _clock(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, ArithmeticError, LookupError):
        return None
