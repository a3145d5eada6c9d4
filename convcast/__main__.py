"""`python -m convcast`, which is also what torchrun starts."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # `python -m` puts the working directory there, whose calendar.py would be run as the library's

from convcast.cli.main import run

if __name__ == "__main__":
    run()
