"""`python -m convcast`, which is also what torchrun starts."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109  pathlib would be looked for there
    del sys.path[0]  # or a calendar.py in the working directory would be run as the library's

from convcast.cli.main import run

if __name__ == "__main__":
    run()
