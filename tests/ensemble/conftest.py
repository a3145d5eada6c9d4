"""Lets the tests of this room import gaussian.py, which is also run as a program, to be killed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
