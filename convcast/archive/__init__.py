"""The archive: the publisher's GRIB2 messages, the few that are needed, byte for byte."""

from convcast.archive.archive import Archive, Message, Sidecar
from convcast.archive.fetch import Outcome, Status, estimate, fetch, verify_archive
from convcast.archive.sources import Source, latest, open_sources

__all__ = [
    "Archive",
    "Message",
    "Outcome",
    "Sidecar",
    "Source",
    "Status",
    "estimate",
    "fetch",
    "latest",
    "open_sources",
    "verify_archive",
]
