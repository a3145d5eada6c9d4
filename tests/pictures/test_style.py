"""Figures look alike, whatever settings lie about and whatever names come from outside."""

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from convcast.pictures.style import finish, styled


@pytest.mark.parametrize("name", ["$x", "$\\frac{$ costs $5", "a\x1b[2J\x07\u202e\udcff", "%s {0} \\alpha"])
def test_names_are_no_formulas_and_hold_no_control_characters(name):
    with styled():
        canvas = Figure((3, 2))
        axes = canvas.subplots()
        axes.plot([1, 2], label=name if name.isprintable() else "x")
        axes.legend()
        assert finish(canvas, title=f"{name}: {name}", note=name, simulated=True).startswith(b"\x89PNG")
    shown = [text.get_text() for text in canvas.texts]
    assert all(line.isprintable() for text in shown for line in text.split("\n"))


def test_settings_of_others_change_nothing():
    """Set a style as a matplotlibrc in the working directory does; text.usetex would start LaTeX."""

    def drawn():
        with styled():
            canvas = Figure((3, 2))
            canvas.subplots().plot([1, 2])
            return finish(canvas, title="t", note="n", simulated=False)

    expected = drawn()
    with mpl.rc_context({"text.usetex": True, "font.size": 40, "lines.linewidth": 9}):
        assert drawn() == expected
        assert mpl.rcParams["font.size"] == 40
