"""The table of fields: names, GRIB keys, bounds, and how each field is stored, learnt and drawn.

To add a field, add a row.

GRIB keys: NCEP's HRRR GRIB2 tables (https://www.nco.ncep.noaa.gov/pmb/products/hrrr/). Standard names and units:
CF standard name table v92. HRRR winds are relative to the grid, hence `x_wind` and `y_wind`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.errors import SettingsError

Array = NDArray[np.floating]

SIMULATED_STATUS = 2
"""GRIB production status "research products" (code table 1.3): the mark of the simulated archive; NOAA's HRRR has 0."""


@dataclass(frozen=True)
class GribKey:
    """The numbers that identify a message: GRIB2 code tables 0.0, 4.1, 4.2 and 4.5."""

    discipline: int
    category: int
    number: int
    surface: int
    level: float


@dataclass(frozen=True)
class Transform:
    """A monotone map from physical values to the values that are normalised and learnt, and its inverse.

    Both use only operators and methods that numpy arrays and torch tensors share.
    """

    name: str
    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]


LINEAR = Transform("linear", lambda x: x, lambda z: z)

# The square root of CAPE is proportional to the maximum updraught speed of parcel theory (w² = 2 CAPE). It shortens the
# tail of large values, and an error of fixed size in it is small in physical units if CAPE is small.
SQUARE_ROOT = Transform("square-root", lambda x: x.clip(min=0) ** 0.5, lambda z: z.clip(min=0) ** 2)
NEGATIVE_SQUARE_ROOT = Transform(
    "negative-square-root", lambda x: -((-x).clip(min=0) ** 0.5), lambda z: -(z.clip(max=0) ** 2)
)

SIGNS = {"m s-1": "m/s", "J kg-1": "J/kg", "1": ""}
"""Units as readers write them, by their CF name, where the two differ."""

NO_ECHO = -10.0
"""Reflectivity, dBZ, that HRRR writes where there is no echo."""


@dataclass(frozen=True)
class Floor:
    """Continuation of a field with a value for "none", so that the learnt field has no jump.

    A third of the points or more have no echo, and "none" is one number far below the weakest echo. The field is learnt
    in normal scores (convcast.dataset.normal_scores) and continued below its weakest value by the distance to the
    nearest echo, like a signed-distance transform. A value below the weakest one becomes "none" again
    (convcast.model.features.floor).
    """

    none: float
    """The value that means none, in units of the field."""
    slope: float
    """Decrease per cell of distance, normal scores."""
    depth: float
    """Maximum decrease below the weakest value, normal scores."""


@dataclass(frozen=True)
class Collapse:
    """Criterion for faulty single points of a field, which lie far below the points around them."""

    below: float
    """Value, in units of the field, below which a point can be a fault."""
    drop: float
    """Minimum depth of a faulty value below the median of the 5 x 5 points around it."""


@dataclass(frozen=True)
class Variable:
    """One field: identity, bounds, how it is stored, learnt, drawn and verified."""

    name: str
    long_name: str
    standard_name: str
    units: str
    index_name: str
    index_level: str
    grib: GribKey
    bounds: tuple[float, float]
    """Valid range: values outside it are decoding errors, and samples are clamped to it."""
    scale: int = 16
    """Stored integers per unit. HRRR is packed on a lattice of 1/16; CAPE needs a coarser one to fit int16."""
    transform: Transform = LINEAR
    floor: Floor | None = None
    """The continuation of a field that has a value for "none", which takes the place of the transform."""
    loss_weight: float = 1.0
    colour_map: str = "viridis"
    display: tuple[float, float] = (0.0, 1.0)
    """Range of values that the colour scale covers; for fields with seasons, from June to August."""
    winter_display: tuple[float, float] | None = None
    """Colour scale's range from December to February, for fields with seasons; other months have the mean of both."""
    spread_display: float = 1.0
    """Upper end of the colour scale of the ensemble spread."""
    thresholds: tuple[float, ...] = ()
    """Thresholds of events: values at or above them (at or below if `events_below`)."""
    events_below: bool = False
    other_grib: GribKey | None = None
    """Another publisher's key for the same field."""
    may_be_constant: bool = False
    """Whether the field may have one value everywhere: no echo, no CAPE, no CIN."""
    collapse: Collapse | None = None
    comment: str = ""
    other_names: tuple[str, ...] = ()
    """Names in GRIB tables and other programs: short names, long names and names of variables."""
    other_standard_names: tuple[str, ...] = ()
    """Further CF standard names under which other programs store the field."""

    @property
    def grib_keys(self) -> tuple[GribKey, ...]:
        """GRIB keys that publishers use for this field, HRRR's first."""
        return (self.grib,) if self.other_grib is None else (self.grib, self.other_grib)

    @property
    def sign(self) -> str:
        """Unit as readers write it: m/s, J/kg."""
        return SIGNS.get(self.units, self.units)

    @property
    def middle_threshold(self) -> float:
        """Default threshold of plots: for REFC, 40 dBZ."""
        return self.thresholds[len(self.thresholds) // 2]

    def happens(self, values: Array, threshold: float) -> NDArray[np.bool_]:
        """Return whether values have the event of this threshold: at or above it (at or below if `events_below`)."""
        return values <= threshold if self.events_below else values >= threshold

    def event(self, threshold: float, sign: str | None = None) -> str:
        """Name an event, `REFC ≥ 40 dBZ`; `sign` is the threshold's unit where it is not the field's own."""
        unit = self.sign if sign is None else sign
        return f"{self.name.upper()} {'≤' if self.events_below else '≥'} {threshold:g} {unit}".rstrip()

    def __reduce__(self) -> tuple[Callable[[str], Variable], tuple[str]]:
        """Pickle a variable by its name, so that another process has the same row of its table."""
        return row, (self.name,)


REFC = Variable(
    name="refc",
    long_name="composite reflectivity",
    standard_name="equivalent_reflectivity_factor",
    units="dBZ",
    index_name="REFC",
    index_level="entire atmosphere",
    grib=GribKey(0, 16, 196, 10, 0),
    other_grib=GribKey(0, 16, 5, 10, 0),  # HRRR and HREF use NCEP's own number, REFS the WMO's.
    bounds=(NO_ECHO, 85.0),
    floor=Floor(none=NO_ECHO, slope=0.25, depth=0.9),
    loss_weight=4.0,
    colour_map="convcast.reflectivity",
    display=(-10.0, 70.0),
    spread_display=20.0,
    thresholds=(20.0, 30.0, 40.0, 50.0),
    may_be_constant=True,
    comment="-10 dBZ means no echo",
    other_names=(
        "Maximum/Composite radar reflectivity",
        "composite radar reflectivity",
        "REFC_entireatmosphere",
        "REFC_entire_atmosphere",
        "MergedReflectivityQCComposite",
        "mdbz",
    ),
)
T2M = Variable(
    name="t2m",
    long_name="2 m temperature",
    standard_name="air_temperature",
    units="K",
    index_name="TMP",
    index_level="2 m above ground",
    grib=GribKey(0, 0, 0, 103, 2),
    bounds=(205.0, 330.0),
    colour_map="RdYlBu_r",
    display=(278.15, 318.15),
    winter_display=(243.15, 298.15),
    spread_display=5.0,
    thresholds=(273.15, 303.15, 308.15),
    other_names=(
        "2t",
        "2 metre temperature",
        "2m temperature",
        "temperature 2m",
        "tmp 2m",
        "t 2m",
        "tas",
        "TMP_2maboveground",
        "TMP_2_m_above_ground",
    ),
)
D2M = Variable(
    name="d2m",
    long_name="2 m dewpoint",
    standard_name="dew_point_temperature",
    units="K",
    index_name="DPT",
    index_level="2 m above ground",
    grib=GribKey(0, 0, 6, 103, 2),
    bounds=(180.0, 325.0),
    colour_map="BrBG",
    display=(268.15, 300.15),
    winter_display=(238.15, 293.15),
    spread_display=5.0,
    thresholds=(283.15, 288.71, 294.26),
    # HRRR's analyses have scattered points at 192.12 K. At real drylines single points lie up to 39 K below the median
    # of 5 x 5, but with higher values; where a whole region is that dry, points are close to the median.
    collapse=Collapse(below=233.15, drop=25.0),
    other_names=(
        "2d",
        "2 metre dewpoint temperature",
        "2m dewpoint temperature",
        "dew point temperature 2m",
        "dewpoint 2m",
        "dpt 2m",
        "td2m",
        "DPT_2maboveground",
        "DPT_2_m_above_ground",
    ),
)
U10 = Variable(
    name="u10",
    long_name="10 m wind along the grid's x axis",
    standard_name="x_wind",
    units="m s-1",
    index_name="UGRD",
    index_level="10 m above ground",
    grib=GribKey(0, 2, 2, 103, 10),
    bounds=(-90.0, 90.0),
    colour_map="PuOr_r",
    display=(-12.0, 12.0),
    spread_display=5.0,
    thresholds=(10.3, 15.4),
    comment="relative to the grid, not to east and north",
    other_names=(
        "10u",
        "u10m",
        "10 metre U wind component",
        "10m u component of wind",
        "wind u 10m",
        "u 10m",
        "uas",
        "UGRD_10maboveground",
        "UGRD_10_m_above_ground",
    ),
    other_standard_names=("grid_eastward_wind", "eastward_wind"),
)
V10 = Variable(
    name="v10",
    long_name="10 m wind along the grid's y axis",
    standard_name="y_wind",
    units="m s-1",
    index_name="VGRD",
    index_level="10 m above ground",
    grib=GribKey(0, 2, 3, 103, 10),
    bounds=(-90.0, 90.0),
    colour_map="PuOr_r",
    display=(-12.0, 12.0),
    spread_display=5.0,
    thresholds=(10.3, 15.4),
    comment="relative to the grid, not to east and north",
    other_names=(
        "10v",
        "v10m",
        "10 metre V wind component",
        "10m v component of wind",
        "wind v 10m",
        "v 10m",
        "vas",
        "VGRD_10maboveground",
        "VGRD_10_m_above_ground",
    ),
    other_standard_names=("grid_northward_wind", "northward_wind"),
)
CAPE = Variable(
    name="cape",
    long_name="surface-based convective available potential energy",
    standard_name="atmosphere_convective_available_potential_energy_wrt_surface",
    units="J kg-1",
    index_name="CAPE",
    index_level="surface",
    grib=GribKey(0, 7, 6, 1, 0),
    bounds=(0.0, 8190.0),
    scale=4,
    transform=SQUARE_ROOT,
    loss_weight=2.0,
    colour_map="convcast.energy",
    display=(0.0, 4000.0),
    spread_display=1000.0,
    thresholds=(500.0, 1000.0, 2000.0),
    may_be_constant=True,
    other_names=(
        "sbcape",
        "convective available potential energy",
        "convective available potential energy surface",
        "CAPE_surface",
    ),
    other_standard_names=("atmosphere_convective_available_potential_energy",),
)
CIN = Variable(
    name="cin",
    long_name="surface-based convective inhibition",
    standard_name="atmosphere_convective_inhibition_wrt_surface",
    units="J kg-1",
    index_name="CIN",
    index_level="surface",
    grib=GribKey(0, 7, 7, 1, 0),
    bounds=(-1500.0, 0.5),
    transform=NEGATIVE_SQUARE_ROOT,
    loss_weight=2.0,
    colour_map="convcast.inhibition",
    display=(-250.0, 0.0),
    spread_display=100.0,
    thresholds=(-25.0, -100.0),
    events_below=True,
    may_be_constant=True,
    comment="zero or negative, as in GRIB; packing may leave up to +0.1",
    other_names=(
        "sbcin",
        "convective inhibition",
        "convective inhibition surface",
        "CIN_surface",
    ),
    other_standard_names=("atmosphere_convective_inhibition",),
)
TERRAIN = Variable(
    name="orog",
    long_name="terrain height",
    standard_name="surface_altitude",
    units="m",
    index_name="HGT",
    index_level="surface",
    grib=GribKey(0, 3, 5, 1, 0),
    bounds=(-450.0, 6000.0),
    scale=4,
    colour_map="gist_earth",
    display=(0.0, 4000.0),
    may_be_constant=True,
)
LAND = Variable(
    name="lsm",
    long_name="land mask",
    standard_name="land_binary_mask",
    units="1",
    index_name="LAND",
    index_level="surface",
    grib=GribKey(2, 0, 0, 1, 0),
    bounds=(0.0, 1.0),
    colour_map="gray",
    may_be_constant=True,
)

FIELDS: dict[str, Variable] = {v.name: v for v in (REFC, T2M, D2M, U10, V10, CAPE, CIN)}
STATIC: dict[str, Variable] = {v.name: v for v in (TERRAIN, LAND)}


def row(name: str) -> Variable:
    """Return the variable with this name, static fields included."""
    return (FIELDS | STATIC)[name]


def by_lead(variables: Sequence[Variable], lead: int, dewpoint: str) -> dict[int, tuple[Variable, ...]]:
    """Group fields by the lead time, in hours, of the files from which they are taken, for the same valid time.

    Args:
        variables: The fields.
        lead: Lead time of the files that serve as analyses, hours.
        dewpoint: With "previous_f01", fields whose analyses have collapsed points are taken from the one-hour forecast
            of the cycle before, which has none.
    """
    ahead = tuple(v for v in variables if v.collapse is not None) if dewpoint == "previous_f01" else ()
    if lead != 0 or not ahead:
        return {lead: tuple(variables)}
    rest = tuple(v for v in variables if v not in ahead)
    return ({lead: rest} if rest else {}) | {1: ahead}


def wind_indices(variables: Sequence[Variable]) -> tuple[int, int] | None:
    """Return the positions of the winds along y and along x among the variables; None unless both are there."""
    names = [variable.standard_name for variable in variables]
    return (names.index("y_wind"), names.index("x_wind")) if {"y_wind", "x_wind"} <= set(names) else None


def select(names: Sequence[str]) -> tuple[Variable, ...]:
    """Return the variables with these names, in this order.

    Raises:
        SettingsError: A name is unknown or repeated, or there are no names.
    """
    from difflib import get_close_matches

    if not names:
        raise SettingsError("no field is selected", advice=f"choose from {' '.join(FIELDS)}")
    for name in names:
        if name not in FIELDS:
            close = get_close_matches(name.lower(), FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {' '.join(FIELDS)}"
            raise SettingsError(f"there is no field {name!r}", advice=hint)
    if len(set(names)) != len(names):
        raise SettingsError(f"a field is named twice in {' '.join(names)}", advice="name each once")
    return tuple(FIELDS[name] for name in names)
