"""Where the publisher keeps HRRR files: Herbie knows, and is asked for nothing else.

Herbie's templates follow NOAA's buckets as they move (https://github.com/blaylockbk/Herbie). Its downloads are not
used: they keep what a failure left behind.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import datetime
from functools import lru_cache
from io import StringIO
from pathlib import PurePosixPath
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import cast
from urllib.parse import urlsplit

import numpy as np

import convcast.grib  # noqa: F401  before Herbie, which imports ecCodes
from convcast.notation import Hour

CLOUDS = ("aws", "google", "azure", "nomads")
"""Sources that Herbie knows and convcast asks."""
INDEX_SUFFIX = ".idx"

_NAME = re.compile(r"hrrr\.(\d{4})(\d{2})(\d{2})/(?:conus/)?hrrr\.t(\d{2})z\.wrfsfcf(\d{2})\.grib2")


def urls(init: Hour, lead: int) -> dict[str, str]:
    """The address of one surface file at each of Herbie's sources."""
    file = SimpleNamespace(
        date=init.astype("datetime64[s]").astype(datetime),
        fxx=lead,
        product="sfc",
        model="hrrr",
        get_remoteFileName="",
    )
    _template()(file)
    return dict(file.SOURCES)


def prepare() -> None:
    """Import Herbie now, before threads start: it takes a second, and standard output is redirected meanwhile."""
    _template()


def path(init: Hour, lead: int) -> PurePosixPath:
    """`hrrr.YYYYMMDD/conus/hrrr.tHHz.wrfsfcfLL.grib2`: the place of one file in the bucket."""
    return PurePosixPath(urlsplit(urls(init, lead)["aws"]).path.lstrip("/"))


def archive_path(init: Hour, lead: int) -> PurePosixPath:
    """The place of one file in convcast's own archive, which keeps the bucket's layout of today for good."""
    day, hour = str(init.astype("datetime64[h]")).replace("-", "").split("T")
    return PurePosixPath(f"hrrr.{day}/conus/hrrr.t{hour}z.wrfsfcf{lead:02d}.grib2")


def parse_path(name: str) -> tuple[Hour, int] | None:
    """Init and lead of a path in the bucket's layout, with or without `conus/`; None for another."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return np.datetime64(f"{match[1]}-{match[2]}-{match[3]}T{match[4]}", "h"), int(match[5])
    except ValueError:
        return None


@lru_cache(maxsize=1)
def _template() -> Callable[[SimpleNamespace], None]:
    # On import Herbie writes a configuration and prints where: into a folder that goes, and to nobody.
    with TemporaryDirectory(prefix="convcast-herbie-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = os.environ.get("HERBIE_CONFIG_PATH")
        os.environ["HERBIE_CONFIG_PATH"] = folder
        try:
            with redirect_stdout(StringIO()):
                from herbie.models.hrrr import hrrr
        finally:
            if before is None:
                del os.environ["HERBIE_CONFIG_PATH"]
            else:
                os.environ["HERBIE_CONFIG_PATH"] = before
    return cast("Callable[[SimpleNamespace], None]", hrrr.template)
