"""HRRRCast of the simulated world: members, their mean and their spread, as NOAA-GSL publishes them.

Members are draws of the publisher's own forecast model from the analysis of their cycle. Files have the names and the
encoding of HRRRCast's program (https://github.com/NOAA-GSL/HRRRCast-live, src/nc2grib.py and src/compute_pmm.py): mean
and spread are encoded as a member is, and the mean of reflectivity is probability-matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from convcast.archive.locations import HRRRCAST_PRODUCT, GribFile
from convcast.archive.reference_ensembles import HRRRCAST_MEMBERS
from convcast.archive.simulated.spectra import Array
from convcast.notation import Hour
from convcast.variables import FIELDS, GribKey, Variable, select

MEAN, SPREAD = "avg", "spr"
"""Product names of the files that hold the members' mean and spread."""
MessageRow = tuple[str, str, str, GribKey]
"""A message's name, name and level in the index, and GRIB key."""


def message_row(variable: Variable) -> MessageRow:
    """Return the row of a field's message in a file of HRRR or HRRRCast."""
    return variable.name, variable.index_name, variable.index_level, variable.grib


ORDER: tuple[MessageRow, ...] = (
    *map(message_row, select(("cape", "cin", "d2m"))),
    ("height", "HGT", "500 mb", GribKey(0, 3, 5, 100, 50_000)),
    *map(message_row, select(("refc", "t2m"))),
    ("t850", "TMP", "850 mb", GribKey(0, 0, 0, 100, 85_000)),
    message_row(FIELDS["u10"]),
    ("u80", "UGRD", "80 m above ground", GribKey(0, 2, 2, 103, 80)),
    message_row(FIELDS["v10"]),
)
"""Messages of a file, in order. Messages of other fields than convcast's resemble requested ones."""


def files_of_lead(members: Mapping[str, Array], init: Hour, lead: int) -> Iterator[tuple[GribFile, dict[str, Array]]]:
    """Yield the files of a cycle's lead (hours) with their fields, (ny, nx).

    Args:
        members: Members by field, (member, ny, nx).
        init: Init time.
        lead: Lead time, hours.
    """
    for number in range(HRRRCAST_MEMBERS):
        yield (
            GribFile("hrrrcast", HRRRCAST_PRODUCT, init, lead, number),
            {name: values[number] for name, values in members.items()},
        )
    means = {name: values.mean(axis=0) for name, values in members.items()}
    means["refc"] = probability_matched_mean(members["refc"])
    yield GribFile("hrrrcast", MEAN, init, lead), means
    yield GribFile("hrrrcast", SPREAD, init, lead), {name: values.std(axis=0) for name, values in members.items()}


def probability_matched_mean(members: Array) -> Array:
    """Return HRRRCast's probability-matched mean, (ny, nx), of members, (member, ny, nx) (Ebert 2001).

    The point with the k-th largest mean has the median of the k-th group of the members' sorted values.
    """
    count = len(members)
    order = np.argsort(members.mean(axis=0), axis=None, kind="stable")
    values = np.sort(members, axis=None).reshape(-1, count)
    matched = np.empty(order.size)
    matched[order] = np.median(values, axis=1)
    return matched.reshape(members.shape[1:])
