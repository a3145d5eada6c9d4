"""Try the libraries that a run needs, in a process that may crash.

This is the program `python -m convcast.operations.readiness.libraries`. Before each step it prints one JSON line with
the error, or None, of each finished step and the name of the next step. After a crash, the last line names the step
that crashed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory


def grib() -> None:
    """Write and read a message and locate HRRR's corner, since some wheels of ecCodes and PROJ are incompatible."""
    import numpy as np

    import convcast.grib as door
    from convcast.grid import CONUS, Grid
    from convcast.variables import T2M

    grid = Grid(8, 9, 400, 900)
    values = np.linspace(250, 310, grid.ny * grid.nx).reshape(grid.shape)
    init = np.datetime64("2024-05-06T21", "h")
    header, decoded = door.decode(
        door.encode(values, key=T2M.grib, grid=grid, init=init, lead_hours=0, simulated=False)
    )
    if (header.key, header.init) != (T2M.grib, init) or not np.allclose(decoded, values, atol=0.04):
        raise RuntimeError("a GRIB message that was written is read with other values")
    latitude, longitude = CONUS.latitude_longitude()
    if abs(float(latitude[0, 0]) - 21.138) > 0.01 or abs(float(longitude[0, 0]) + 122.72) > 0.01:
        raise RuntimeError("PROJ gives a wrong position of the HRRR grid")


def scores() -> None:
    """Score two members, 0 and 2, against an observation of 1: the fair CRPS is 0."""
    import numpy as np

    from convcast.metrics.kernels import crps_points

    crps = crps_points(np.array([[0.0], [2.0]]), np.array([1.0]), "fair")
    if not np.allclose(crps, 0):
        raise RuntimeError(f"a CRPS of 0 is computed as {crps[0]:g}")


def pictures() -> None:
    from matplotlib.figure import Figure

    from convcast.pictures.style import finish, styled

    with styled():
        if not finish(Figure((2, 2)), title="trial", note="trial", simulated=False).startswith(b"\x89PNG"):
            raise RuntimeError("a picture is not a PNG file")


def stores() -> None:
    """Write a Zarr array to a temporary folder and read it."""
    import numpy as np
    import zarr

    with TemporaryDirectory() as folder:
        array = zarr.create_array(Path(folder) / "trial.zarr", shape=(3,), dtype="int16", zarr_format=3)
        array[:] = np.arange(3)
        if not np.array_equal(np.asarray(array[:]), np.arange(3)):
            raise RuntimeError("a Zarr array that was written is read with other values")


def addresses() -> None:
    from convcast.archive import locations

    locations.prepare()


STEPS: Mapping[str, Callable[[], None]] = {
    "GRIB and maps": grib,
    "scores": scores,
    "pictures": pictures,
    "stores": stores,
    "addresses": addresses,
}


def _report(ended: Mapping[str, str | None], following: str | None) -> None:
    """Write a line of the protocol: the steps that have ended, and the one that follows."""
    sys.stdout.write(json.dumps({"ended": ended, "next": following}) + "\n")
    sys.stdout.flush()


def main() -> None:
    ended: dict[str, str | None] = {}
    for name, step in STEPS.items():
        _report(ended, name)
        try:
            step()
            ended[name] = None
        except Exception as error:  # noqa: BLE001  a broken library may raise anything
            ended[name] = f"{type(error).__name__}: {error}"
    _report(ended, None)


if __name__ == "__main__":
    main()
