"""Scans of MRMS: which of a bucket's files is nearest an hour, and its content.

A file of the public bucket holds one scan, as gzip of one GRIB2 message, without an index. Scans are two minutes apart,
and their names hold the second at which they were made, so that a folder must be listed before one can be fetched
(https://registry.opendata.aws/noaa-mrms-pds).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from convcast.archive.archive import Archive
from convcast.archive.failures import Absent, Bad, Incomplete
from convcast.archive.locations import REFLECTIVITY, GribFile
from convcast.archive.messages.spec import MessageSpec
from convcast.archive.request import Request
from convcast.notation import HOUR, Hour, Hours
from convcast.variables import REFC, GribKey

SCAN_KEY = GribKey(209, 10, 0, 102, 500.0)
"""MRMS's composite reflectivity: discipline 209 is MRMS's own, and the surface a nominal height of 500 m."""
SPEC = MessageSpec(REFC.name, "MergedReflectivityQCComposite", "500 m above mean sea level", (SCAN_KEY,))
TOLERANCE = np.timedelta64(5, "m")
"""Maximum time between a scan and the hour that it stands for; storms move three cells in this time."""
MAX_SCAN_BYTES = 1 << 26
"""Maximum size of an unpacked scan: real ones have 1 to 5 MB, and a damaged or hostile file may have no end."""

_NAME = re.compile(rf"(?:.*/)?MRMS_{re.escape(REFLECTIVITY)}_(\d{{8}})-(\d{{6}})\.grib2(?:\.gz)?")
_OBJECT = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_KEY = re.compile(r"<Key>([\w./-]{1,300})</Key>")
_SIZE = re.compile(r"<Size>([0-9]{1,12})</Size>")


@dataclass(frozen=True)
class Scan:
    """A file of one scan at a publisher."""

    key: str
    """Path from the top of the bucket."""
    size: int
    """Bytes, as published."""

    @property
    def time(self) -> np.datetime64 | None:
        """Time of the scan by its name, to the second; None for the name of another file."""
        match = _NAME.fullmatch(self.key)
        if match is None:
            return None
        day, second = match.groups()
        try:
            return np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{second[:2]}:{second[2:4]}:{second[4:]}", "s")
        except ValueError:
            return None


def requests(archive: Archive, hours: Hours) -> tuple[Request, ...]:
    """Return requests for the scan nearest each hour."""
    return tuple(Request(GribFile("mrms", REFLECTIVITY, hour, 0), (SPEC,), archive) for hour in np.unique(hours))


def prefixes(hour: Hour) -> tuple[str, str]:
    """Return the beginnings of the paths of scans within ten minutes of an hour, from the folder of all days."""
    times = (str(hour - HOUR), str(hour))
    days = [time[:10].replace("-", "") for time in times]
    return (
        f"{days[0]}/MRMS_{REFLECTIVITY}_{days[0]}-{times[0][11:13]}5",
        f"{days[1]}/MRMS_{REFLECTIVITY}_{days[1]}-{times[1][11:13]}0",
    )


def parse_listing(text: str) -> tuple[Scan, ...]:
    """Return the scans in the answer of a bucket to a request for a list of its objects (S3's ListObjectsV2).

    Raises:
        Bad: The text is not such an answer.
        Incomplete: It is cut short.
    """
    if "<ListBucketResult" not in text:
        raise Bad("the server's answer is not a list of its files")
    if "</ListBucketResult>" not in text:
        raise Incomplete("the list of files is cut short")
    scans = []
    for entry in _OBJECT.findall(text):
        key, size = _KEY.search(entry), _SIZE.search(entry)
        if key is not None and size is not None:
            scans.append(Scan(key[1], int(size[1])))
    return tuple(scans)


def nearest(scans: Iterable[Scan], hour: Hour) -> Scan:
    """Return the scan nearest an hour, the earlier of two; raises Absent if none is within the tolerance."""
    near = [(abs(scan.time - hour), scan.time, scan) for scan in scans if scan.time is not None]
    if not near or min(near)[0] > TOLERANCE:
        raise Absent(f"no scan within {TOLERANCE.astype(int)} minutes of the hour")
    return min(near, key=lambda one: one[:2])[2]


def unpack(octets: bytes) -> bytes:
    """Return the message in a scan's file, which may be gzip or not.

    Raises:
        Bad: The file is not gzip, is followed by other bytes, or is too large.
        Incomplete: It is cut short.
    """
    if octets[:4] == b"GRIB":
        return octets
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        message = stream.decompress(octets, MAX_SCAN_BYTES)
    except zlib.error as error:
        raise Bad(f"the scan cannot be unpacked ({error})") from None
    if stream.unconsumed_tail:
        raise Bad(f"the scan is larger than {MAX_SCAN_BYTES} bytes")
    if not stream.eof:
        raise Incomplete("the scan is cut short")
    if stream.unused_data:
        raise Bad("other bytes follow the scan")
    return message


def is_near(time: np.datetime64, hour: Hour) -> bool:
    """Return whether a scan of this time may stand for an hour."""
    return bool(abs(time.astype("datetime64[s]") - hour) <= TOLERANCE)
