"""Write the calibrated members of an ensemble from those that the model drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast import stores
from convcast.errors import DamagedFileError
from convcast.forecasts.calibration import Calibration, calibrations_before, read_calibration
from convcast.forecasts.integrity import start_over_advice
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.notation import Hour

NONE = "none"
"""Value of the attribute `calibration` of members for which there was no calibration."""


def choose_calibration(folder: Path, stored: Sequence[Path], init: Hour, model: str) -> Calibration | None:
    """Return the calibration that a forecast was stored with, or else the newest that was learnt from nothing later.

    A calibration from another model's forecasts is not used.

    Args:
        folder: Folder of the calibrations.
        stored: Paths of the calibrated members and of their products, which need not exist.
        init: Initial time.
        model: Short name of the model that draws the members (`convcast.forecasts.open.model_identity`).

    Raises:
        DamagedFileError: The calibration cannot be read.
    """
    recorded = next((found for path in stored if (found := _recorded(path)) is not None), None)
    if recorded == NONE:
        return None
    if recorded is not None:
        named = folder / f"{recorded.split()[0]}.json"
        if named.is_file():
            return read_calibration(named)
    known = map(read_calibration, calibrations_before(folder, init))
    return next((one for one in known if one.model == model), None)


def describe_calibrated(
    description: ForecastDescription, calibration: Calibration | None, members: int
) -> ForecastDescription:
    """Return the description of the calibrated ensemble, whose attributes name the calibration.

    The number of members belongs to its identity, since a calibrated member depends on the mean of all.
    """
    if calibration is None:
        return replace(description, identity=description.identity | {"calibration": NONE})
    identity = {"calibration": calibration.name, "calibration_members": members}
    information = {
        "calibration_learnt_from": f"{calibration.cases} forecasts, from {calibration.first}, "
        f"with analyses until {calibration.last}"
    }
    return replace(
        description,
        identity=description.identity | identity,
        information=description.information | information,
    )


def write_calibrated(
    raw: Path,
    target: Path,
    description: ForecastDescription,
    calibration: Calibration | None,
    *,
    members: Sequence[int],
    leads: Sequence[int],
    regimes: NDArray[np.int8] | None,
) -> int:
    """Write the calibrated members that `target` lacks, once all of them are drawn.

    Args:
        raw: Store of the members as they were drawn.
        target: Store of the calibrated members.
        description: The ensemble as it was drawn.
        calibration: The maps; None writes the members as they are.
        members: Member numbers.
        leads: Lead times, hours.
        regimes: Index into REGIMES of each point at the initial time, (y, x); None if not known.

    Returns:
        Number of members and leads written.

    Raises:
        DamagedFileError: A member is not complete, or `target` is another ensemble.
    """
    drawn = EnsembleStore.prepare(raw, description, members=max(members) + 1)
    whole = describe_calibrated(description, calibration, len(set(members)))
    store = EnsembleStore.prepare(target, whole, members=max(members) + 1)
    written = 0
    for lead in leads:
        due = store.missing(sorted(set(members)), lead)
        if not due:
            continue
        if drawn.missing(members, lead):
            raise DamagedFileError(f"{raw} lacks members at {lead} h", advice="run the same `convcast sample` again")
        mean = np.zeros((len(description.variables), *description.grid.shape))
        for member in members:
            mean += drawn.read(member, lead)
        mean /= len(members)
        for member in due:
            fields = drawn.read(member, lead)
            if calibration is not None:
                fields = np.stack(
                    [
                        calibration.apply(variable, lead, values[None], regimes, mean=of_all)[0]
                        for variable, values, of_all in zip(description.variables, fields, mean, strict=True)
                    ]
                )
            store.write(member, lead, fields)
            written += 1
    return written


def is_calibrated(path: Path) -> bool:
    """Return whether a stored forecast has calibrated members; raises DamagedFileError if it cannot be read."""
    return _recorded(path) not in (None, NONE)


def _recorded(target: Path) -> str | None:
    """Return the calibration that a stored forecast names; None where there is no forecast, or it names none."""
    if not target.is_dir():
        return None
    group = stores.open_group(
        target, writing=False, complaint=f"{target} cannot be read", advice=start_over_advice(target)
    )
    name = dict(group.attrs).get("calibration")
    return name if isinstance(name, str) and name else None
