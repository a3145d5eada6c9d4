"""The notebook runs, and prints what stands in it; the gallery's maps are those that the program draws today."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

DOCS = Path(__file__).resolve().parents[2] / "docs"
pytestmark = pytest.mark.slow


def printed(cells):
    """The text of each output; pictures are named only."""
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    data = [output.get("data", {"text/plain": output.get("text", "")}) for output in outputs]
    return ["a picture" if "image/png" in one else "".join(one["text/plain"]) for one in data]


@pytest.mark.filterwarnings("ignore")
def test_the_notebook_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    committed = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]

    made = runpy.run_path(str(DOCS / "notebook.py"))["run_notebook"]()

    assert printed(made.cells) == printed(committed), "run `python docs/generate.py --run`"
    assert printed(committed).count("a picture") == 2


def test_every_kind_of_map_is_in_the_gallery():
    from convcast.pictures.forecast import KINDS

    pictures = runpy.run_path(str(DOCS / "gallery.py"))["PICTURES"]

    assert set(pictures) == KINDS.keys()
    assert {path.name for path in (DOCS / "images").glob("gallery-*")} == {f"gallery-{kind}.png" for kind in pictures}


def test_the_maps_of_the_gallery_are_current(tmp_path):
    kinds = ["stamps", "neighbourhood", "difference"]

    runpy.run_path(str(DOCS / "gallery.py"))["draw_gallery"](kinds, tmp_path)

    for kind in kinds:
        name = f"gallery-{kind}.png"
        drawn, committed = (image.imread(folder / name) for folder in (tmp_path, DOCS / "images"))
        assert drawn.shape == committed.shape
        assert np.abs(drawn - committed).mean() < 0.01, "run `python docs/generate.py --run`"
