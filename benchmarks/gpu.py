"""Measure speed, memory and correctness of the network on this machine's GPU, in at most eight minutes.

    python benchmarks/gpu.py [--minutes 8] [--output .]
    python benchmarks/gpu.py --small                     # a few seconds of each on the CPU, to try the script

It is `convcast check --gpu` for a machine without convcast's dependencies. From a checkout it needs torch, numpy,
scipy, xarray, numba, safetensors, and the packages in NEEDED with their dependencies. Without access to a package
index, use a folder of wheels: `pip download -d wheels` of NEEDED, then `pip install --no-index -f wheels` of them. It
writes gpu.json and gpu.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = (
    "pydantic",
    "pydantic-settings",
    "psutil",
    "zarr",
    "numcodecs",
    "filelock",
    "requests",
    "pyproj",
    "eccodes",
)
"""Packages besides torch, numpy, scipy, xarray, numba and safetensors."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--output", type=Path, default=Path())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="small sizes, which a CPU computes in seconds")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from convcast.errors import ConvcastError
    from convcast.operations.speed.run import run

    try:
        for line in run(arguments.output, arguments.device, seconds=60 * arguments.minutes, small=arguments.small):
            print(line, flush=True)
    except ConvcastError as error:
        print(f"{error}: {error.advice}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
