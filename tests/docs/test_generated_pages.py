"""The generated pages say what the settings and the commands are."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("name", ["settings.md", "commands.md", "gallery.md"])
def test_the_page_is_current(name):
    made = runpy.run_path(str(DOCS / "generate.py"))["PAGES"][name]()

    assert (DOCS / name).read_text() == made, "run `python docs/generate.py`"
