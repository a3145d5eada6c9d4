"""A dataset is made sound again after it lost files: its arrays by their layout, `status` by the verdicts.

Nothing that can be read is changed or deleted, but for the description of an array that cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.store import DatasetDescription, HourStatus, Store, layout, open_described, open_part
from convcast.errors import DamagedFileError
from convcast.notation import HOUR, Hour, Hours


def repair(path: Path, ground: Callable[[DatasetDescription], NDArray[np.float32]]) -> list[str]:
    """Make anew what of the dataset at `path` is lost or damaged, but for the hours' fields; gives the arrays' names.

    `ground` reads the static fields (static, y, x) from elsewhere. Only the holder of the lock may call this.

    Raises DamagedFileError where the dataset's own attributes are lost or damaged, which say what it is.
    """
    group, description = open_described(path, writing=True)
    mended = []
    for name, how in layout(description).items():
        try:
            open_part(group, name, description, path)
        except DamagedFileError:
            (path / name / "zarr.json").unlink(missing_ok=True)
            group.create_array(name, **how)
            mended.append(name)
    store = Store(path, group, description)
    mended += store.restore({hour: _status(verdict) for hour, verdict in store.read_verdicts().items()})
    try:
        _ = store.static
    except DamagedFileError:
        store.write_static(ground(description))
        mended.append("static")
    return list(dict.fromkeys(mended))


def _status(verdict: Mapping[str, Any]) -> HourStatus:
    return HourStatus.__members__.get(str(verdict.get("status")).upper(), HourStatus.ABSENT)


def lost_hours(
    store: Store, status: Mapping[Hour, HourStatus], verdicts: Mapping[Hour, Mapping[str, Any]], *, read: bool
) -> tuple[Hours, Hours]:
    """Hours that are ok but whose fields are lost or damaged, and hours that lost only the changes from before.

    A file that has the signature that its hour's verdict tells is taken to be whole; others are read, and with `read`
    all are.
    """
    lost: list[Hour] = []
    uncounted: list[Hour] = []
    for hour in [hour for hour, code in status.items() if code == HourStatus.OK]:
        if not store.is_whole(hour, verdicts.get(hour, {}).get("chunks"), read=read):
            lost.append(hour)
        elif status.get(hour - HOUR) == HourStatus.OK and not store.has_tendencies(hour, read=read):
            uncounted.append(hour)
    return np.array(lost, "datetime64[h]"), np.array(uncounted, "datetime64[h]")
