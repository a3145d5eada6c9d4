"""Fetch the required GRIB2 messages from publishers and store them unchanged."""

from convcast.archive.archive import Archive, ArchivedMessage, Sidecar, open_archives
from convcast.archive.fetch import FetchOutcome, analyses, estimate, fetch, fetch_files, verify_archive
from convcast.archive.forcing import Forcing, HrrrForecast
from convcast.archive.sources import kind_of, latest, open_sources

__all__ = [
    "Archive",
    "ArchivedMessage",
    "FetchOutcome",
    "Forcing",
    "HrrrForecast",
    "Sidecar",
    "analyses",
    "estimate",
    "fetch",
    "fetch_files",
    "kind_of",
    "latest",
    "open_archives",
    "open_sources",
    "verify_archive",
]
