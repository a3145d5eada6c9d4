"""Addresses and paths of the publishers' files, from Herbie's templates where it has the publisher.

Herbie's templates are updated when NOAA's buckets change (https://github.com/blaylockbk/Herbie). Its downloads are not
used, since they leave incomplete files after a failure. It has none for MRMS, whose bucket noaa-mrms-pds is in the
Registry of Open Data, and none for HRRRCast, whose names are those that its program writes
(https://github.com/NOAA-GSL/HRRRCast-live, src/nc2grib.py).
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib import import_module
from io import StringIO
from pathlib import PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

import numpy as np

from convcast.notation import HOUR, Hour

CLOUDS = ("aws", "google", "azure", "nomads")
"""Public sources for which Herbie has templates."""
INDEX_SUFFIX = ".idx"
EXTRA_DELAY_HOURS = {"hrrr": 0.0, "rrfs": 2.0, "refs": 4.0, "href": 4.0, "hrrrcast": 6.0, "mrms": 0.0}
"""Additional publication delay of each model after its cycle, compared to HRRR, hours."""
SURFACE = "sfc"
"""HRRR's product of two-dimensional fields."""
REFLECTIVITY = "MergedReflectivityQCComposite_00.50"
"""MRMS's composite reflectivity, quality controlled; 00.50 is a nominal height in km."""
SCANS = f"CONUS/{REFLECTIVITY}"
"""Folder of the scans in MRMS's bucket, with one folder for each day."""
HRRRCAST_PRODUCT = "pgrb2"
"""Product name of HRRRCast's files of members; files of the mean and the spread are `avg` and `spr`."""


@dataclass(frozen=True)
class GribFile:
    """One file of a publisher."""

    model: str
    """hrrr, rrfs, refs or href, as Herbie names them; hrrrcast or mrms."""
    product: str
    init: Hour
    """Init time (cycle), UTC."""
    lead: int
    """Lead time, hours."""
    member: int | None = None
    """Member number, if members have files of their own."""

    @property
    def valid(self) -> Hour:
        return self.init + self.lead * HOUR


def hrrr(init: Hour, lead: int) -> GribFile:
    """Return HRRR's file of surface fields for this init and lead time (hours)."""
    return GribFile("hrrr", SURFACE, init, lead)


_LAYOUTS = {
    ("hrrr", False): "hrrr.{day}/conus/hrrr.t{hour}z.wrfsfcf{lead:02d}.grib2",
    ("refs", False): "refs.{day}/{hour}/ensprod/refs.t{hour}z.{product}.f{lead:02d}.conus.grib2",
    ("rrfs", False): "rrfs.{day}/{hour}/rrfs.t{hour}z.{product}.3km.f{lead:03d}.conus.grib2",
    ("rrfs", True): (
        "rrfsens.{day}/{hour}/m{member:03d}/"  # members and control are in separate folders
        "rrfs.t{hour}z.m{member:03d}.{product}.3km.f{lead:03d}.conus.grib2"
    ),
    ("href", False): "href.{day}/ensprod/href.t{hour}z.conus.{product}.f{lead:02d}.grib2",
    ("hrrrcast", True): "hrrrcast.{day}/{hour}/hrrrcast.m{member:02d}.t{hour}z.{product}.f{lead:02d}.grib2",
    ("hrrrcast", False): "hrrrcast.{day}/{hour}/hrrrcast.{product}.t{hour}z.pgrb2.f{lead:02d}.grib2",
    # The hour that the scan stands for; its own time is in its name at the publisher and in the message.
    ("mrms", False): f"mrms.{{day}}/mrms.t{{hour}}z.{REFLECTIVITY}.grib2",
}
"""Paths from the folder of the day on, by model and whether members have files of their own. Lead times have two digits
in REFS and three in RRFS. HREF has one folder per day, the others one per cycle."""
_PARTS = {
    "day": r"20[0-9]{6}",
    "hour": r"\d\d",
    "product": r"[a-z0-9]+",
    "lead:02d": r"\d\d",
    "lead:03d": r"\d{3}",
    "member:02d": r"\d\d",
    "member:03d": r"\d{3}",
}
_BUCKETS = {
    "hrrrcast": "https://noaa-gsl-experimental-pds.s3.amazonaws.com",
    "mrms": "https://noaa-mrms-pds.s3.amazonaws.com",
}
"""Buckets, at AWS, of the publishers that Herbie does not have."""
_BUCKET_LAYOUTS = {
    ("hrrrcast", True): "HRRRCast/{day}/{hour}/hrrrcast.m{member:02d}.t{hour}z.{product}.f{lead:02d}",
    ("hrrrcast", False): "HRRRCast/{day}/{hour}/hrrrcast.{product}.t{hour}z.pgrb2.f{lead:02d}",
    ("mrms", False): SCANS,
}
"""Paths in these buckets, as _LAYOUTS has them. The path of a scan holds the second at which it was made, so that only
the folder is known."""
_FIRST_FOLDER = re.compile(r"(?:hrrr|refs|rrfs|rrfsens|href)\.\d{8}/.*")
_NOMADS_VERSIONS = ("prod", "para")
"""Folders in which NOMADS may have RRFS and REFS, besides that of Herbie's version."""


def urls(file: GribFile) -> dict[str, tuple[str, ...]]:
    """Return the addresses at which a file may be found, for each of Herbie's sources that publishes it."""
    if file.model in _BUCKETS:
        return {"aws": (f"{_BUCKETS[file.model]}/{bucket_path(file)}",)}
    request = SimpleNamespace(
        date=file.init.astype("datetime64[s]").astype(datetime),
        fxx=file.lead,
        product=file.product,
        model=file.model,
        domain="conus",
        member=file.member,
        get_remoteFileName="",
    )
    _template(file.model)(request)
    return {source: _alternatives(source, address) for source, address in request.SOURCES.items()}


def prepare() -> None:
    """Import Herbie before threads start, since the import takes a second and redirects standard output."""
    for model, _ in _LAYOUTS:
        if model not in _BUCKETS:
            _template(model)


def bucket_path(file: GribFile) -> PurePosixPath:
    """Return the path of a file in the bucket, from the folder of the day, or of all days for a scan of MRMS."""
    if file.model in _BUCKETS:
        return _path(_BUCKET_LAYOUTS[file.model, file.member is not None], file)
    addresses = urls(file)
    path = urlsplit((addresses.get("aws") or addresses["nomads"])[0]).path
    match = _FIRST_FOLDER.search(path)
    return PurePosixPath(match[0] if match else path.lstrip("/"))


def archive_path(file: GribFile) -> PurePosixPath:
    """Return the path of a file in convcast's archive, whose layout does not change if the bucket's does."""
    return _path(_LAYOUTS[file.model, file.member is not None], file)


def _path(layout: str, file: GribFile) -> PurePosixPath:
    day, hour = str(file.init.astype("datetime64[h]")).replace("-", "").split("T")
    return PurePosixPath(layout.format(day=day, hour=hour, product=file.product, lead=file.lead, member=file.member))


def parse_path(name: str) -> GribFile | None:
    """Return the file at a path in the bucket's layout (for HRRR with or without `conus/`); None for any other path."""
    layouts = [*_LAYOUTS.items(), *((kind, path) for kind, path in _BUCKET_LAYOUTS.items() if "{day}" in path)]
    for (model, members), layout in layouts:
        match = _pattern(layout).fullmatch(name)
        if match is None:
            continue
        day, hour = match["day"], match["hour"]
        try:
            init = np.datetime64(f"{day[:4]}-{day[4:6]}-{day[6:]}T{hour}", "h")
        except ValueError:
            return None
        parts = match.groupdict()
        product = parts.get("product", REFLECTIVITY if model == "mrms" else SURFACE)
        return GribFile(model, product, init, int(parts.get("lead", 0)), int(match["member"]) if members else None)
    return None


@lru_cache
def _pattern(layout: str) -> re.Pattern[str]:
    """Regular expression that matches paths of this layout; a part that occurs twice must be equal."""
    pattern = re.escape(layout).replace("/conus/", "/(?:conus/)?")
    for part, form in _PARTS.items():
        name, placeholder = part.split(":")[0], re.escape("{" + part + "}")
        pattern = pattern.replace(placeholder, f"(?P<{name}>{form})", 1).replace(placeholder, f"(?P={name})")
    return re.compile(pattern)


def _alternatives(source: str, address: str) -> tuple[str, ...]:
    match = re.search(r"/com/(?:rrfs|refs)/([^/]+)/", address) if source == "nomads" else None
    if match is None:
        return (address,)
    before, after = address[: match.start(1)], address[match.end(1) :]
    return (address, *(before + version + after for version in _NOMADS_VERSIONS if version != match[1]))


@lru_cache
def _template(model: str) -> Callable[[SimpleNamespace], None]:
    import convcast.grib  # noqa: F401  before Herbie, which imports ecCodes

    # On import Herbie writes a configuration, here into a temporary folder, and prints a message, which is discarded.
    with TemporaryDirectory(prefix="convcast-herbie-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = os.environ.get("HERBIE_CONFIG_PATH")
        os.environ["HERBIE_CONFIG_PATH"] = folder
        try:
            with redirect_stdout(StringIO()):
                module = import_module(f"herbie.models.{model}")
        finally:
            if before is None:
                del os.environ["HERBIE_CONFIG_PATH"]
            else:
                os.environ["HERBIE_CONFIG_PATH"] = before
    return cast("Callable[[SimpleNamespace], None]", getattr(module, model).template)
