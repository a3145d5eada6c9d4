"""`python -m convcast`, which is also what torchrun starts."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[
        0
    ]  # `python -m` puts the working directory there: a file calendar.py in it would replace the library's module

from convcast.cli.main import run

if __name__ == "__main__":
    run()
