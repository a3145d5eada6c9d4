from __future__ import annotations

from matplotlib.axes import Axes

from convcast.pictures.training_curve import draw_training_curve


def test_training_and_validation_are_drawn(monkeypatch):
    drawn = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda axes, x, y, **look: drawn.append((x, y)) or plot(axes, x, y, **look))

    png = draw_training_curve([(1, 1.0), (50, 0.6)], [(50, 0.7)], name="m", simulated=True)

    assert png.startswith(b"\x89PNG")
    assert drawn == [((1, 50), (1.0, 0.6)), ((50,), (0.7,))]
