"""Whether a source answers at all."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import requests

from convcast.archive import locations
from convcast.notation import HOUR
from convcast.settings import ArchiveSettings


@dataclass(frozen=True)
class Answer:
    """To one request; `error` is None for any answer that is not the server's own failure."""

    seconds: float
    error: str | None = None
    date: str | None = None
    """The server's clock, as HTTP writes it."""


def probe(name: str, settings: ArchiveSettings) -> Answer:
    """Ask aws, google, azure, nomads or a web address for yesterday's index, once. It need not be there."""
    url = name
    if name in locations.CLOUDS:
        locations.prepare()
        hour = np.datetime64("now").astype("datetime64[h]") - 24 * HOUR
        url = locations.urls(locations.hrrr(hour, 0))[name][0] + locations.INDEX_SUFFIX
    started = time.monotonic()
    try:
        response = requests.head(url, timeout=(settings.connect_timeout, settings.read_timeout), allow_redirects=False)
    except requests.RequestException as error:
        return Answer(time.monotonic() - started, f"no answer ({type(error).__name__})")
    seconds = time.monotonic() - started
    if response.status_code >= 500:
        return Answer(seconds, f"answers {response.status_code} {response.reason}")
    return Answer(seconds, None, response.headers.get("Date"))
