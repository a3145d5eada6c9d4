"""Reference ensembles: products and members of REFS, HREF and HRRRCast, and HRRR's time-lagged ensemble.

This module defines their cycles, members, ages, products, thresholds and layers. Sources: NWS Service
Change Notices 26-47 and 26-48 (HREF ends as REFS v1 becomes operational, planned for 2026-10-14 12Z); HREF v3.1's and
REFS v1's product lists (https://www.nco.ncep.noaa.gov/pmb/products/href/ and .../refs/); index lines of real files,
which stand in the tests; and the program that writes HRRRCast's files (https://github.com/NOAA-GSL/HRRRCast-live, src).

Leads and ages are in hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from convcast.archive.archive import Archive
from convcast.archive.locations import HRRRCAST_PRODUCT, GribFile, hrrr
from convcast.archive.messages.spec import MessageSpec, fields
from convcast.archive.request import Request
from convcast.errors import SettingsError
from convcast.grib.identity import Limit
from convcast.notation import HOUR, Hour, Hours
from convcast.settings import HRRR_LONGEST_LEAD
from convcast.variables import CAPE, CIN, D2M, FIELDS, REFC, T2M, U10, V10, GribKey, Variable

SYSTEMS = ("refs", "href", "time-lagged", "hrrrcast")
LONGEST_LEADS = {"hrrr": HRRR_LONGEST_LEAD, "rrfs": 60}
"""Longest lead, hours, of the forecasts that are members of REFS, by model."""
HRRRCAST_MEMBERS = 18
"""Number of members that HRRRCast published in August 2026, m00 to m17; it had 9 and 14 before."""
HRRRCAST_LONGEST, HRRRCAST_SHORT = 48, 18
"""Last lead of HRRRCast's cycles at 00, 06, 12 and 18 UTC, and of the others, hours."""
LEADS = tuple(range(1, 7))
"""Lead times with which consecutive cycles cover every hour once, hours."""

Kind = Literal["mean", "spread", "matched-mean", "probability"]
_FILES: dict[Kind, str] = {"mean": "mean", "spread": "sprd", "matched-mean": "pmmn", "probability": "prob"}
_HRRRCAST_FILES: dict[Kind, str] = {"mean": "avg", "spread": "spr", "matched-mean": "avg"}
_RESTS: dict[Kind, str] = {
    "mean": r"(wt )?ens mean(:.*)?",
    "spread": r"(wt )?ens (spread|std dev)(:.*)?",
    # wgrib2 versions describe these differently; the file holds one message of each field.
    "matched-mean": r".*",
}
_DERIVED, _PROBABILITY, _MEMBER = frozenset({2}), frozenset({5}), frozenset({0, 1})
"""Product definition templates, at a point in time: derived from all members, a probability, and one member (or 0)."""
_ONE_FORECAST = r"(ENS=.*|.*process=.*)?"
"""Pattern of a member's index columns after the forecast; HRRRCast's rows have none."""
MIXED_LAYER = "90-0 mb above ground"
NEIGHBOURHOOD = {"refs": 39.0, "href": 40.6}
"""Kilometres around a point within which a neighbourhood event may happen: 13 cells of 3 km, 8 of 5.079 km."""


@dataclass(frozen=True)
class Product:
    """A field that an ensemble's publisher derives from its members.

    Probabilities are in percent. Both publishers label an event ">" and code it ">=", and "<" likewise.
    """

    variable: Variable
    kind: Kind
    limit: Limit | None = None
    neighbourhood: float | None = None
    """Radius in km within which the event may happen; None for an event at the point itself."""
    layer: str | None = None
    """Level in the index if it differs from the variable's: CAPE and CIN of another parcel are other quantities."""
    as_member: bool = False
    """Whether its messages are encoded as one member's forecast, so that only the file's name tells them apart."""

    @property
    def name(self) -> str:
        """Name in sidecars: `t2m_mean`, `refc_probability_40`, `cape_probability_500_mixed_layer`."""
        parts = [self.variable.name, self.kind.replace("-", "_")]
        if self.limit is not None:
            parts.append(f"{self.limit.threshold:g}")
        return "_".join(parts + ["mixed_layer"] * (self.layer is not None))

    @property
    def comparable(self) -> bool:
        """Whether convcast forecasts the same quantity."""
        return self.layer is None

    @property
    def spec(self) -> MessageSpec:
        """Specification of the product's GRIB message."""
        return MessageSpec(
            self.name,
            self.variable.index_name,
            self.layer or self.variable.index_level,
            _keys(self.variable, self.layer),
            rest=self._rest,
            templates=_PROBABILITY if self.kind == "probability" else _DERIVED | (_MEMBER if self.as_member else set()),
            limit=self.limit,
        )

    @property
    def _rest(self) -> str:
        if self.as_member:
            return f"{_ONE_FORECAST}|{_RESTS[self.kind]}"
        if self.limit is None:
            return _RESTS[self.kind]
        sign = "<" if self.limit.below else ">"
        return rf"prob {sign}=?{re.escape(f'{self.limit.threshold:g}')}:prob fcst \d+/\d+(:.*)?"


@dataclass(frozen=True)
class Member:
    """One forecast that is a member of an ensemble."""

    name: str
    file: GribFile
    age: int
    """Hours since the ensemble's cycle."""


def _keys(variable: Variable, layer: str | None) -> tuple[GribKey, ...]:
    key = variable.grib
    if layer is not None:
        return (GribKey(key.discipline, key.category, key.number, 108, 9000),)
    return variable.grib_keys


def _probabilities(
    variable: Variable, thresholds: Sequence[float], *, below: bool = False, layer: str | None = None
) -> tuple[Product, ...]:
    return tuple(Product(variable, "probability", Limit(value, below), layer=layer) for value in thresholds)


def products(system: str) -> tuple[Product, ...]:
    """Return the products of convcast's fields that REFS, HREF or HRRRCast publishes, on grids of 3, 5 and 3 km.

    REFC has no mean, since storms differ in position between members, but a probability-matched one. HREF has no wind
    components. HRRRCast's probabilities are not published.
    """
    if system == "hrrrcast":
        kinds: tuple[Kind, ...] = ("mean", "spread")
        return (
            Product(REFC, "matched-mean", as_member=True),
            Product(REFC, "spread", as_member=True),
            *(Product(v, kind, as_member=True) for v in (T2M, D2M, U10, V10, CAPE, CIN) for kind in kinds),
        )
    near = tuple(
        Product(REFC, "probability", Limit(value), neighbourhood=NEIGHBOURHOOD[system])
        for value in (10.0, 20.0, 30.0, 40.0, 50.0)
    )
    winds = (U10, V10) if system == "refs" else ()
    moments: tuple[Kind, ...] = ("mean", "spread")
    return (
        *near,
        Product(REFC, "matched-mean"),
        Product(REFC, "spread"),
        *(Product(variable, kind) for variable in (T2M, D2M, *winds, CAPE, CIN) for kind in moments),
        *_probabilities(T2M, (273.15,), below=True),
        *_probabilities(D2M, (283.15, 285.93, 288.71, 291.48, 294.26)),
        *_probabilities(CAPE, (500.0, 1000.0, 1500.0, 2000.0, 3000.0), layer=MIXED_LAYER),
        *_probabilities(CIN, (0.0, -50.0, -100.0, -400.0), below=True, layer=MIXED_LAYER),
    )


def refs_members(cycle: Hour, lead: int) -> tuple[Member, ...]:
    """Return REFS's 14 members: RRFS's control and five members, and HRRR, of this cycle and of the one 6 h before.

    All have equal weights. Members whose forecasts are too short are left out: HRRR ends at 48 h, RRFS at 60 h.
    """
    members = []
    for age in (0, 6):
        init, ahead, old = cycle - age * HOUR, lead + age, f"-{age}h" if age else ""
        members.append(Member(f"rrfs{old}", GribFile("rrfs", "2dfld", init, ahead), age))
        members += [
            Member(f"rrfs-m{number:03d}{old}", GribFile("rrfs", "2dfldnomads", init, ahead, number), age)
            for number in range(1, 6)
        ]
        members.append(Member(f"hrrr{old}", hrrr(init, ahead), age))
    return tuple(member for member in members if member.file.lead <= LONGEST_LEADS[member.file.model])


def time_lagged_members(init: Hour, lead: int, ages: Sequence[int]) -> tuple[Member, ...]:
    """Return the HRRR forecasts for the same valid time from `ages` hours before `init`; all have equal weights.

    Args:
        init: Time from which the ages count.
        lead: Hours from `init` to the valid time.
        ages: Ages of the HRRR cycles, hours.
    """
    return tuple(Member(f"hrrr-{age}h", hrrr(init - age * HOUR, lead + age), age) for age in ages)


def hrrrcast_members(init: Hour, lead: int) -> tuple[Member, ...]:
    """Return HRRRCast's members of a cycle, all drawn alike, without a control; empty where the cycle is too short."""
    if lead > hrrrcast_longest(init):
        return ()
    files = (GribFile("hrrrcast", HRRRCAST_PRODUCT, init, lead, number) for number in range(HRRRCAST_MEMBERS))
    return tuple(Member(f"hrrrcast-m{file.member:02d}", file, 0) for file in files)


def hrrrcast_longest(init: Hour) -> int:
    """Return the last lead, hours, of HRRRCast's cycle at this hour."""
    return HRRRCAST_LONGEST if init == cycle_of(init) else HRRRCAST_SHORT


def cycle_of(init: Hour) -> Hour:
    """Return the last cycle of REFS or HREF at or before this hour."""
    hours = int(init.astype("datetime64[h]").astype(int))
    return init - (hours % 6) * HOUR


def requests(
    system: str,
    archives: Mapping[str, Archive],
    valid: Hours,
    leads: Sequence[int],
    names: Sequence[str],
    *,
    members: bool = True,
    derived: bool = True,
) -> tuple[Request, ...]:
    """Return requests for the files of a reference ensemble.

    Args:
        system: One of SYSTEMS.
        archives: Archives by name: hrrr, refs, href and hrrrcast.
        valid: Valid hours.
        leads: Lead times, hours: of HRRR for time-lagged, and otherwise of the system's cycles.
        names: Names of the fields.
        members: Request the members of REFS or HRRRCast; time-lagged consists of members alone.
        derived: Request the products of REFS, HREF or HRRRCast.

    Raises:
        SettingsError: There is no such system, or a lead time is 0, for which there are no ensembles.
    """
    if system not in SYSTEMS:
        raise SettingsError(f"there is no reference ensemble {system!r}", advice=f"use {', '.join(SYSTEMS)}")
    if min(leads) < 1:
        raise SettingsError("reference ensembles have no analysis (f00)", advice="use --leads 1-6")
    variables = [FIELDS[name] for name in names]
    if system == "time-lagged":
        files = [hrrr(hour - lead * HOUR, lead) for hour in valid for lead in leads]
        return tuple(Request(file, fields(variables), archives["hrrr"]) for file in files)
    requested: list[Request] = []
    for cycle, lead in _cycles(system, valid, leads):
        if derived:
            requested += _derived(system, archives[system], cycle, lead, names)
        if members:
            requested += (_member(member, archives, variables) for member in _members(system, cycle, lead))
    # Consecutive cycles share members.
    return tuple(dict.fromkeys(requested))


def _cycles(system: str, valid: Hours, leads: Sequence[int]) -> Iterator[tuple[Hour, int]]:
    """Yield the cycles, and their leads, that a system has for these valid hours."""
    for hour in valid:
        for lead in leads:
            init = hour - lead * HOUR
            if lead <= hrrrcast_longest(init) if system == "hrrrcast" else init == cycle_of(init):
                yield init, lead


def _members(system: str, cycle: Hour, lead: int) -> tuple[Member, ...]:
    """Return the members of a cycle; empty for HREF, which publishes none."""
    members = {"refs": refs_members, "hrrrcast": hrrrcast_members}
    return members[system](cycle, lead) if system in members else ()


def product_file(system: str, kind: Kind, cycle: Hour, lead: int) -> GribFile:
    """Return the file of a system's products of a kind.

    Args:
        system: `refs`, `href` or `hrrrcast`.
        kind: Kind of the products; HRRRCast has no probabilities.
        cycle: Initial time of the system's cycle.
        lead: Lead time from that cycle, hours.
    """
    return GribFile(system, (_HRRRCAST_FILES if system == "hrrrcast" else _FILES)[kind], cycle, lead)


def _derived(system: str, archive: Archive, cycle: Hour, lead: int, names: Sequence[str]) -> Iterator[Request]:
    specs: dict[GribFile, list[MessageSpec]] = {}
    for product in products(system):
        if product.variable.name in names:
            specs.setdefault(product_file(system, product.kind, cycle, lead), []).append(product.spec)
    for file, of_file in specs.items():
        yield Request(file, tuple(of_file), archive, partial=True)


def _member(member: Member, archives: Mapping[str, Archive], variables: Sequence[Variable]) -> Request:
    if member.file.model == "hrrr":
        return Request(member.file, fields(variables), archives["hrrr"])
    specs = tuple(
        MessageSpec(v.name, v.index_name, v.index_level, v.grib_keys, rest=_ONE_FORECAST, templates=_MEMBER)
        for v in variables
    )
    archive = archives["hrrrcast" if member.file.model == "hrrrcast" else "refs"]
    return Request(member.file, specs, archive, partial=True)
