"""Decode and encode GRIB2 messages with ecCodes.

pyproj is imported first on purpose: current ecCodes wheels load their own libproj into the global namespace, after
which a later `import pyproj` fails and the interpreter crashes at exit.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyproj  # noqa: F401  isort: skip
import eccodes
import numpy as np
from numpy.typing import NDArray

from convcast import grid as hrrr
from convcast.errors import DamagedFileError
from convcast.grib import sections
from convcast.grib.identity import HEAD, Identity, identify
from convcast.grid import Grid, RegularGrid, locate
from convcast.notation import HOUR, Hour
from convcast.variables import SIMULATED_STATUS, GribKey

LATTICE = 16
"""HRRR values lie on multiples of 1/16: decimal scale factor 0, binary scale factor -4."""
MISSING_VALUE = 9.999e20
"""Value that ecCodes gives to missing points."""
ALLOWED_VARIABLES = ("ECCODES_DEBUG", "ECCODES_DIR", "ECCODES_HOME", "ECCODES_PYTHON")
"""Prefixes of the environment variables that ecCodes may read: its location and its log level."""
IGNORED = tuple(
    name for name in os.environ if name.startswith(("ECCODES_", "GRIB_")) and not name.startswith(ALLOWED_VARIABLES)
)
"""Environment variables that are set and hidden from ecCodes."""


def _start_eccodes() -> None:
    """Have ecCodes read its environment variables, which it does once, with only those of ALLOWED_VARIABLES set.

    A site may set ECCODES_DEFINITION_PATH for its own library. Definitions of another version crash this one, or change
    the meaning of a message. Messages are identified by numbers here, for which the library's own definitions suffice.
    """
    hidden = {name: os.environ.pop(name) for name in IGNORED}
    try:
        eccodes.codes_definition_path()
    finally:
        os.environ.update(hidden)


_start_eccodes()


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of freed fields for the next ones.

    By default glibc returns 15 MB blocks to the system, and taking new pages costs a third of the time of decoding. The
    numbers of the options are those of malloc.h.
    """
    trim_threshold, mmap_threshold = -1, -3
    with suppress(OSError, AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(mmap_threshold, 1 << 26)
        c_library.mallopt(trim_threshold, 1 << 28)


_keep_freed_memory()


@dataclass(frozen=True)
class MessageHeader(Identity):
    """Header of a GRIB2 message."""

    ny: int
    nx: int
    first_latitude: float
    first_longitude: float
    offset: int
    """Offset of the message in its file, bytes."""
    length: int
    handle_grid: tuple[int, ...]
    """Keys that must be HRRR's: template, scanning mode, spacing, projection."""

    def grid(self) -> Grid:
        """Grid of the message; raises DamagedFileError if it is not part of the HRRR grid."""
        if self.handle_grid != tuple(_HRRR_GRID.values()):
            raise DamagedFileError("not on the HRRR grid")
        return locate(self.first_latitude, self.first_longitude, self.ny, self.nx, periodic=self.simulated)

    def regular_grid(self) -> RegularGrid:
        """Grid of the message; raises DamagedFileError if its steps of latitude and longitude are not equal."""
        template, scanning, dx, dy, *_ = self.handle_grid
        if (template, scanning) != (0, 0) or dx != dy or dx <= 0:
            raise DamagedFileError("not on a latitude-longitude grid that starts in the north-west")
        return RegularGrid(self.ny, self.nx, self.first_latitude, self.first_longitude, dx / 1e6)


@dataclass(frozen=True)
class Message:
    """A message whose values are still packed."""

    header: MessageHeader
    handle: Any
    """Handle of ecCodes."""

    def decode(self, *, into: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Decode the values, (ny, nx), NaN if missing, into the array `into` if it is given.

        Rows are in the message's order: row 0 of HRRR's grid is in the south, row 0 of a regular grid in the north.

        Raises:
            DamagedFileError: The values cannot be decoded, or have another shape.
        """
        try:
            gaps = _may_have_gaps(self.handle)
            if gaps:
                eccodes.codes_set_double(self.handle, "missingValue", MISSING_VALUE)
            values = eccodes.codes_get_values(self.handle)
        except eccodes.CodesInternalError as error:
            raise DamagedFileError(f"a GRIB message cannot be decoded ({error})") from error
        shape = (self.header.ny, self.header.nx)
        if values.size != shape[0] * shape[1] or (into is not None and into.shape != shape):
            raise DamagedFileError(f"a GRIB message has {values.size} values for {shape[0]} x {shape[1]} points")
        field = np.empty(shape, np.float32) if into is None else into
        if gaps:
            values[values == MISSING_VALUE] = np.nan
        with np.errstate(over="ignore"):  # values beyond float32 become infinite, and are rejected later
            field[...] = values.reshape(shape)
        return field


_SPACING, _LATIN = round(1e3 * hrrr.SPACING), round(1e6 * hrrr.LATIN)
_HRRR_GRID = {
    "gridDefinitionTemplateNumber": 30,
    "scanningMode": 64,
    "Dx": _SPACING,
    "Dy": _SPACING,
    "LaD": _LATIN,
    "Latin1": _LATIN,
    "Latin2": _LATIN,
    "LoV": round(1e6 * (hrrr.ORIENTATION % 360)),
}
"""ecCodes keys of HRRR's grid: Lambert conformal (template 3.30), spacing in mm, angles in microdegrees."""


def read_messages(path: Path) -> Iterator[Message]:
    """Yield a file's messages in order; each can be decoded until the next one is requested.

    Raises:
        DamagedFileError: A message cannot be read.
    """
    with open(path, "rb") as file:
        size, offset = os.fstat(file.fileno()).st_size, 0
        while offset < size:
            try:
                start = file.read(sections.INDICATOR)
                # A damaged length may exceed the memory.
                rest = min(sections.message_length(start), size - offset) - len(start)
                octets = start + file.read(max(0, rest))
                with _opened(octets, offset) as message:
                    yield message
            except DamagedFileError as error:
                raise DamagedFileError(f"{path} is damaged after byte {offset} ({error})") from error
            offset += len(octets)


def decode(message: bytes) -> tuple[MessageHeader, NDArray[np.float32]]:
    """Decode one message into its header and its values, (ny, nx), in the order of the message, NaN if missing.

    Raises:
        DamagedFileError: The message cannot be decoded.
    """
    with _opened(message, 0) as opened:
        return opened.header, opened.decode()


@contextmanager
def _opened(message: bytes, offset: int) -> Iterator[Message]:
    """Check a message's sections and open it with ecCodes; raises DamagedFileError if it cannot be read."""
    sections.check(message)
    try:
        with _message(eccodes.codes_new_from_message(message)) as handle:
            yield Message(_header(handle, message, offset), handle)
    except eccodes.CodesInternalError as error:
        raise DamagedFileError(f"a GRIB message cannot be decoded ({error})") from error


def _may_have_gaps(handle: Any) -> bool:
    """Return whether points may be missing, by a bitmap (section 6) or in complex packing (code table 5.5)."""
    number = eccodes.codes_get_long
    if number(handle, "bitmapPresent"):
        return True
    managed = "missingValueManagementUsed"
    return bool(eccodes.codes_is_defined(handle, managed) and number(handle, managed))


@dataclass(frozen=True)
class EnsembleSpec:
    """Kind of an ensemble message: one member, or a product of all members."""

    size: int
    member: int | None = None
    derived: Literal["mean", "spread"] | None = None
    threshold: float | None = None
    """Threshold of the event whose probability (percent) the message holds: at or above it."""
    below: bool = False
    """Whether the event is at or below the threshold."""
    first_lead: int | None = None
    """First lead, hours, of the interval up to the message's lead in which the event counts, if it is not the lead."""

    def keys(self) -> dict[str, int]:
        """Product definition templates 4.1, 4.2, 4.5 and 4.9, with code tables 4.6, 4.7 and 4.9."""
        positively_perturbed, mean_of_all, spread_of_all, above_lower, below_upper = 3, 0, 4, 3, 4
        if self.threshold is not None:
            limit, other = ("Upper", "Lower") if self.below else ("Lower", "Upper")
            decimals = next(d for d in range(7) if abs(self.threshold * 10**d - round(self.threshold * 10**d)) < 1e-6)
            return {
                "productDefinitionTemplateNumber": 5 if self.first_lead is None else 9,
                "forecastProbabilityNumber": 0,
                "totalNumberOfForecastProbabilities": min(self.size, NOT_GIVEN),
                "probabilityType": below_upper if self.below else above_lower,
                f"scaleFactorOf{limit}Limit": decimals,
                f"scaledValueOf{limit}Limit": round(self.threshold * 10**decimals),
                f"scaleFactorOf{other}Limit": 0,
                f"scaledValueOf{other}Limit": 0,
            }
        if self.derived is not None:
            return {
                "productDefinitionTemplateNumber": 2,
                "derivedForecast": mean_of_all if self.derived == "mean" else spread_of_all,
                "numberOfForecastsInEnsemble": min(self.size, NOT_GIVEN),
            }
        return {
            "productDefinitionTemplateNumber": 1,
            "typeOfEnsembleForecast": positively_perturbed,
            "perturbationNumber": self.member or 0,
            "numberOfForecastsInEnsemble": min(self.size, NOT_GIVEN),
        }


def _interval(init: Hour, first: int, last: int) -> dict[str, int]:
    """Return the keys of a maximum over the hours from the first to the last lead (code table 4.10, entry 2)."""
    end = (init + last * HOUR).astype("datetime64[s]").astype(datetime)
    maximum, same_start = 2, 2
    return {
        "forecastTime": first,
        "yearOfEndOfOverallTimeInterval": end.year,
        "monthOfEndOfOverallTimeInterval": end.month,
        "dayOfEndOfOverallTimeInterval": end.day,
        "hourOfEndOfOverallTimeInterval": end.hour,
        "minuteOfEndOfOverallTimeInterval": 0,
        "secondOfEndOfOverallTimeInterval": 0,
        "numberOfTimeRanges": 1,
        "typeOfStatisticalProcessing": maximum,
        "typeOfTimeIncrement": same_start,
        "indicatorOfUnitForTimeRange": 1,
        "lengthOfTimeRange": last - first,
    }


NOT_GIVEN = 255
"""An octet of ones, which means "not given" in GRIB2; used if there are more members than an octet can count."""
_HRRR = {
    "typeOfProcessedData": 1,
    "productDefinitionTemplateNumber": 0,
    "typeOfGeneratingProcess": 2,
    "generatingProcessIdentifier": 83,
}
_ENSEMBLE = {"typeOfProcessedData": 4, "typeOfGeneratingProcess": 4, "generatingProcessIdentifier": 255}
"""Keys of a perturbed forecast that is not made by the centre."""


def encode(
    values: NDArray[np.floating],
    *,
    key: GribKey,
    grid: Grid,
    init: Hour,
    lead_hours: int,
    simulated: bool,
    ensemble: EnsembleSpec | None = None,
) -> bytes:
    """Encode a GRIB2 message with HRRR's grid template, lattice and packing.

    Args:
        values: Values, (ny, nx), GRIB units; they are rounded to multiples of 1/16.
        key: Numbers that identify the field.
        grid: Grid of the values.
        init: Init time.
        lead_hours: Lead time, hours.
        simulated: Mark the message as simulated.
        ensemble: Kind of ensemble message; by default a deterministic one, as HRRR's.
    """
    rounded = np.round(np.asarray(values, np.float64) * LATTICE) / LATTICE
    span = int((rounded.max() - rounded.min()) * LATTICE)
    year_to_day, hour = str(init).split("T")
    longitude, latitude = hrrr.projection()(grid.x[0], grid.y[0], inverse=True)
    with opened_sample() as handle:
        for name, value in {
            "discipline": key.discipline,
            # ecCodes and wgrib2 find names for composite reflectivity, CAPE and CIN only in NCEP's tables.
            "centre": 7,
            "subCentre": 0,
            "tablesVersion": 2,
            "localTablesVersion": 1,
            **(_HRRR if ensemble is None else _ENSEMBLE | ensemble.keys()),
            "significanceOfReferenceTime": 1,
            "dataDate": int(year_to_day.replace("-", "")),
            "dataTime": int(hour[:2]) * 100,
            "productionStatusOfProcessedData": SIMULATED_STATUS if simulated else 0,
            **_HRRR_GRID,
            "shapeOfTheEarth": 6,
            "numberOfDataPoints": grid.ny * grid.nx,
            "Nx": grid.nx,
            "Ny": grid.ny,
            "latitudeOfFirstGridPoint": round(latitude * 1e6),
            "longitudeOfFirstGridPoint": round((longitude % 360) * 1e6),
            "resolutionAndComponentFlags": 8,
            "projectionCentreFlag": 0,
            "latitudeOfSouthernPole": 0,
            "longitudeOfSouthernPole": 0,
            "parameterCategory": key.category,
            "parameterNumber": key.number,
            "indicatorOfUnitForForecastTime": 1,
            **(
                {"forecastTime": lead_hours}
                if ensemble is None or ensemble.first_lead is None
                else _interval(init, ensemble.first_lead, lead_hours)
            ),
            "typeOfFirstFixedSurface": key.surface,
            "scaleFactorOfFirstFixedSurface": 0,
            "scaledValueOfFirstFixedSurface": int(key.level),
            "typeOfSecondFixedSurface": 255,
            "packingType": "grid_complex_spatial_differencing" if span else "grid_simple",
            "bitsPerValue": span.bit_length(),  # after the packing type, which resets it
            "decimalScaleFactor": 0,
        }.items():
            eccodes.codes_set(handle, name, value)
        eccodes.codes_set_values(handle, rounded.ravel())
        message: bytes = eccodes.codes_get_message(handle)
    return message


def opened_sample() -> AbstractContextManager[Any]:
    """Open a GRIB2 sample message of ecCodes, and release it at the end of the block."""
    return _message(eccodes.codes_grib_new_from_samples("GRIB2"))


@contextmanager
def _message(handle: Any) -> Iterator[Any]:
    try:
        yield handle
    finally:
        eccodes.codes_release(handle)


def _header(handle: Any, message: bytes, offset: int) -> MessageHeader:
    def optional(name: str) -> int:
        return eccodes.codes_get_long(handle, name) if eccodes.codes_is_defined(handle, name) else -1

    identity = identify(lambda position: message[position : position + HEAD], 0, len(message))
    return MessageHeader(
        **vars(identity) | {"init": identity.init.astype("datetime64[h]")},
        ny=optional("Ny"),
        nx=optional("Nx"),
        first_latitude=optional("latitudeOfFirstGridPoint") / 1e6,
        first_longitude=optional("longitudeOfFirstGridPoint") / 1e6,
        offset=offset,
        length=len(message),
        handle_grid=tuple(optional(name) for name in _HRRR_GRID),
    )
