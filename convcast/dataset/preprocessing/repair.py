"""Repair a dataset that has lost files: recreate arrays from their layout, and `status` from the verdicts.

Readable files are never changed or deleted, except for the metadata of an unusable array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.layout import (
    DatasetDescription,
    HourStatus,
    layout,
    open_described,
    open_part,
    recreate_lost,
    status_of,
)
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError
from convcast.notation import HOUR, Hour, Hours


def repair(path: Path, read_static: Callable[[DatasetDescription], NDArray[np.float32]]) -> list[str]:
    """Recreate the lost or damaged arrays of a dataset, except for the fields of its hours.

    Only the holder of the dataset's lock may call this.

    Args:
        path: The dataset's Zarr store.
        read_static: Reads the static fields (static, y, x) from the archive.

    Returns:
        The names of the recreated arrays.

    Raises:
        DamagedFileError: The attributes of the dataset itself are lost or damaged.
    """
    group, description = open_described(path, writing=True)
    repaired = recreate_lost(group, layout(description), path, lambda name: open_part(group, name, description, path))
    store = Store(path, group, description)
    repaired += store.restore({hour: status_of(verdict) for hour, verdict in store.read_verdicts().items()})
    try:
        _ = store.static
    except DamagedFileError:
        store.write_static(read_static(description))
        repaired.append("static")
    return list(dict.fromkeys(repaired))


def lost_hours(
    store: Store, status: Mapping[Hour, HourStatus], verdicts: Mapping[Hour, Mapping[str, Any]], *, read: bool
) -> tuple[Hours, Hours]:
    """Find the hours that are ok according to `status` and have lost files.

    Args:
        store: The dataset.
        status: Status of each hour.
        verdicts: Last verdict on each hour; a file that still has the signature in its verdict is not read
            and counts as whole.
        read: Read all files, whatever their signature.

    Returns:
        The hours whose fields or histogram are lost or damaged, and the hours that have lost only their tendencies.
    """
    lost: list[Hour] = []
    uncounted: list[Hour] = []
    for hour in [hour for hour, code in status.items() if code == HourStatus.OK]:
        if not store.is_whole(hour, verdicts.get(hour, {}).get("chunks"), read=read):
            lost.append(hour)
        elif status.get(hour - HOUR) == HourStatus.OK and not store.has_tendencies(hour, read=read):
            uncounted.append(hour)
    return np.array(lost, "datetime64[h]"), np.array(uncounted, "datetime64[h]")
