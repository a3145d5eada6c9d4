"""The page about settings says what the settings are."""

import runpy
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_is_current():
    made = runpy.run_path(str(DOCS / "generate.py"))["page"]()

    assert (DOCS / "settings.md").read_text() == made, "run `python docs/generate.py`"
