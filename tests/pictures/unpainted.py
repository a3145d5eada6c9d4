"""Replace the painting of figures, which takes seconds each, by one pixel; figures may also not be laid out."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""


def unpainted(print_png, texts=None):
    """Return a FigureCanvasAgg.print_png that writes one pixel, and adds the texts beside the axes to a list."""

    def written(self, file, **options):
        if "draw" in vars(self.figure):  # matplotlib asks for the size of texts
            print_png(self, file, **options)
        if texts is not None:
            texts.append({text.get_text() for text in self.figure.texts})
        file.write(PIXEL)

    return written


@contextmanager
def nothing_painted():
    """Within a block, figures are laid out and not painted."""
    painted = FigureCanvasAgg.print_png
    FigureCanvasAgg.print_png = unpainted(painted)
    try:
        yield
    finally:
        FigureCanvasAgg.print_png = painted


@contextmanager
def nothing_drawn():
    """Within a block, maps are one pixel, and so is the one figure that a report has."""
    from convcast.pictures import forecast
    from convcast.verification.report import figures, save

    figure = figures.ReportFigure("relative", heading="Scores", title="Scores", caption="Scores", png=PIXEL)
    maps = mock.patch.object(forecast, "draw", return_value=PIXEL)
    with maps, mock.patch.object(save, "draw_figures", return_value=[figure]), nothing_painted():
        yield
