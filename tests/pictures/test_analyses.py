from __future__ import annotations

import io

import numpy as np
from matplotlib import image

from convcast.grid import Grid
from convcast.pictures.analyses import draw_analyses
from convcast.pictures.geography.base_map import BaseMap
from convcast.variables import FIELDS

GRID = Grid(20, 20, 300, 800)


def test_every_hour_is_drawn_and_what_is_simulated_says_so():
    field = np.full(GRID.shape, -10.0)
    field[5:9, 5:9] = 55
    hours = list(np.datetime64("2024-05-27T20", "h") + np.arange(3))

    drawn = {
        simulated: image.imread(
            io.BytesIO(
                draw_analyses(FIELDS["refc"], [field] * 3, hours, BaseMap(GRID, borders=False), simulated=simulated)
            )
        )
        for simulated in (True, False)
    }

    mark = np.array([0xFD, 0xE2, 0xB3]) / 255
    marked = {
        name: bool((np.abs(picture[..., :3] - mark).max(axis=-1) < 0.004).any()) for name, picture in drawn.items()
    }
    assert marked == {True: True, False: False}
    red = np.abs(drawn[True][..., :3] - drawn[True][..., :3].mean(axis=-1, keepdims=True)).max(axis=-1) > 0.2
    assert len(np.unique(np.flatnonzero(red.any(axis=0)) // (red.shape[1] // 3))) >= 3, "a storm in each map"
