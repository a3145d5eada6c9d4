from __future__ import annotations

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from matplotlib import image
from matplotlib.collections import LineCollection
from matplotlib.text import Text

from convcast.grid import REGIONS, Grid
from convcast.pictures import canvas
from convcast.pictures.forecast import KINDS, OF_MEMBERS, draw
from convcast.pictures.forecast_field import ForecastField, Wind, from_members
from convcast.pictures.geography.base_map import BaseMap
from convcast.pictures.geography.borders import county_lines, state_lines
from convcast.pictures.member_maps import coarsen
from convcast.pictures.outlines import outline
from convcast.variables import FIELDS

REFC, T2M, CIN, U10, CAPE = (FIELDS[name] for name in ("refc", "t2m", "cin", "u10", "cape"))
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


def shown(drawn=None, *, variable=REFC, threshold=40.0, simulated=True, land=None, **more):
    drawn = members() if drawn is None else drawn
    rest = partial(
        ForecastField,
        variable=variable,
        threshold=threshold,
        init=np.datetime64("2024-05-27T22", "h"),
        lead=1,
        base_map=BaseMap(GRID, land, borders=False),
        dots=60,
        numbers=tuple(range(len(drawn))),
        simulated=simulated,
        source="convcast 0.1.0, model demo",
        **more,
    )
    return from_members(rest, variable, threshold, drawn)


def everything(variable=REFC, **more):
    """A field that every kind of map can be drawn of."""
    drawn = members()
    half = np.full(GRID.shape, 0.5)
    wind = Wind(10 * half, 20 * half, 22 * half)
    beside = {
        "neighbourhood": half,
        "matched_mean": drawn[0],
        "wind": wind,
        "observed": drawn[0],
        "reference": drawn[1],
        "any_time": half,
        "any_time_near": half,
        "window": (1, 2, 3, 6),
    }
    return shown(drawn, variable=variable, threshold=variable.middle_threshold, **beside, **more)


@pytest.fixture
def canvases(monkeypatch):
    """The figures that are drawn."""
    finished, found = canvas.finish, []
    monkeypatch.setattr(canvas, "finish", lambda figure, **words: found.append(figure) or finished(figure, **words))
    return found


def pixels(png):
    return np.round(255 * image.imread(io.BytesIO(png))[..., :3]).astype(int)


def share(png, colour):
    """Return the share of the picture with this colour, within rounding."""
    return float((np.abs(pixels(png) - colour).max(axis=-1) <= 2).mean())


@pytest.mark.parametrize("kind", ["stamps", "probability"])
def test_simulated_weather_is_marked_and_real_weather_is_not(kind):
    assert share(draw(kind, everything()), SIMULATED) > 0.001
    assert share(draw(kind, everything(simulated=False)), SIMULATED) == 0


@pytest.mark.parametrize(
    ("kind", "variable", "width"),
    [*((kind, CAPE, 4.6) for kind in KINDS), ("probability", REFC, None), ("wind", U10, None), ("stamps", U10, 10.5)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_no_text_leaves_the_figure_or_lies_under_the_mark(kind, variable, width, canvases):
    warning = "CAPE ≥ 1000 J/kg is forecast 9.1 times too often (95 % interval 7.2 to 11.3)."
    draw(kind, everything(variable, width=width, system="us", warnings=(warning,)))
    (figure,) = canvases
    whole = figure.bbox
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    boxes = {text: text.get_window_extent() for text in texts}
    inside = {text: box for text, box in boxes.items() if text.axes is None or text.axes.axison}
    for text, box in inside.items():
        assert box.x0 >= whole.x0, text
        assert box.x1 <= whole.x1, text
        assert box.y0 >= whole.y0, text
        assert box.y1 <= whole.y1, text
    mark = next(text for text in figure.texts if text.get_text() == "SIMULATED")
    covered = mark.get_bbox_patch().get_window_extent()
    assert not any(box.overlaps(covered) for text, box in boxes.items() if text is not mark)
    lines = [boxes[text] for text in figure.texts if text is not mark]
    assert not any(one.overlaps(other) for i, one in enumerate(lines) for other in lines[:i])
    assert not any(
        box.overlaps(axes.get_position().transformed(figure.transFigure)) for box in lines for axes in figure.axes
    )


def test_the_title_says_what_and_when(canvases):
    draw("mean", shown())
    title, when = (text.get_text() for text in canvases[0].texts if text.get_va() == "top" and text.get_ha() == "left")
    assert title == "Composite reflectivity: ensemble mean"
    assert when == "valid Mon 2024-05-27 23 UTC (F01, init 22 UTC)"
    assert replace(shown(), lead=3).times == "valid Tue 2024-05-28 01 UTC (F03, init 2024-05-27 22 UTC)"


def test_probability_is_the_share_of_members():
    found = shown()
    assert found.probability[15, 15] == 1
    assert found.probability[30, 45] == pytest.approx(1 / 6)
    assert found.event == "REFC ≥ 40 dBZ"
    assert found.near_event == "REFC ≥ 40 dBZ within 40 km"

    certain = share(draw("probability", found), SURE)
    none = share(draw("probability", shown(np.full((6, *GRID.shape), -10, np.float32))), SURE)
    # 100 of 2,400 cells, of a map that fills a good half of the page; the bar has the colour too.
    assert 0.015 < certain - none < 0.05


def test_inhibition_counts_where_it_is_strong():
    drawn = np.zeros((4, *GRID.shape), np.float32)
    drawn[:2, :5] = -150
    assert shown(drawn, variable=CIN, threshold=-100.0).probability[0, 0] == 0.5


@pytest.mark.parametrize("count", [6, 50])
def test_the_paintball_counts_the_members(count, canvases):
    draw("paintball", shown(members(count)))
    shared, alone, none = (canvases[0].axes[0].images[-1].get_array()[y, x] for y, x in ((15, 15), (30, 45), (5, 5)))
    if count == 50:
        assert (shared, alone) == (50, 1)
        assert none is np.ma.masked
        assert [text.get_text() for text in canvases[0].axes[1].get_xticklabels()] == [
            *("1", "2–3", "4–7", "8–15", "16–31", "32–50")
        ]
    else:
        assert none[3] == 0
        assert tuple(alone) != tuple(shared)
        labels = [text.get_text() for text in canvases[0].legends[0].get_texts()]
        assert labels == [*(f"only {number}" for number in range(6)), "two or more"]
    assert f"{count} of {count} have REFC ≥ 40 dBZ somewhere" in canvases[0].texts[-1].get_text()


def test_outlines_enclose_the_area_of_the_event_and_no_other():
    event = np.random.default_rng(0).random(GRID.shape) > 0.7
    edges = outline(event, BaseMap(GRID))
    middle_x, rise = edges[..., 0].mean(axis=1), edges[:, 1, 1] - edges[:, 0, 1]
    assert (middle_x * rise).sum() == pytest.approx(9 * event.sum()), "Green's theorem, cells of 9 km²"
    assert outline(np.zeros(GRID.shape, bool), BaseMap(GRID)).shape == (0, 2, 2)


@pytest.mark.parametrize("count", [6, 50])
def test_the_spaghetti_has_an_outline_of_every_member(count, canvases):
    drawn = members(count)
    drawn[3, 30, 5] = 55  # a storm of one cell
    draw("spaghetti", shown(drawn, simulated=False, observed=drawn[0]))
    drawn_lines = [found for found in canvases[0].axes[0].collections if isinstance(found, LineCollection)]
    edges = [len(found.get_segments()) for found in drawn_lines]
    assert edges.count(44) == 1, "one storm of 10 x 10 cells and one of a single cell"
    assert edges.count(80) >= 1, "member 0 has two large storms"
    assert edges.count(40) >= count - 2
    labels = [text.get_text() for text in canvases[0].legends[0].get_texts()]
    assert labels[-2:] == ["half of the members or more", "analysis: REFC ≥ 40 dBZ"]


def test_the_analysis_is_outlined_and_has_a_stamp_where_there_is_one(canvases):
    found = everything()
    for kind in ("probability", "paintball"):
        draw(kind, found)
        assert canvases[-1].legends[0].get_texts()[-1].get_text() == "analysis: REFC ≥ 40 dBZ"
    draw("probability", replace(found, observed=None))
    assert canvases[-1].legends == []
    draw("stamps", found)
    assert canvases[-1].axes[0].get_title(loc="left") == "analysis"


def test_the_maximum_is_the_strongest_of_any_member(canvases):
    draw("maximum", shown())
    assert canvases[0].axes[0].images[-1].get_array()[30, 45] == 55
    inhibited = np.zeros((4, *GRID.shape), np.float32)
    inhibited[0, 3, 3] = -150
    draw("maximum", shown(inhibited, variable=CIN, threshold=-100.0))
    assert canvases[1].axes[0].images[-1].get_array()[3, 3] == -150
    assert "ensemble minimum" in canvases[1].texts[-2].get_text() + canvases[1].texts[1].get_text()


def test_us_units_are_fahrenheit_and_knots(canvases):
    warm = np.full((4, *GRID.shape), 300.0, np.float32)
    warm[1] += 5
    found = shown(warm, variable=T2M, threshold=303.15, system="us")
    draw("mean", found)
    np.testing.assert_allclose(canvases[-1].axes[0].images[-1].get_array()[0, 0], 1.8 * 301.25 - 459.67, atol=0.01)
    assert canvases[-1].axes[1].get_xlabel() == "ensemble mean (°F)"
    draw("spread", found)
    np.testing.assert_allclose(canvases[-1].axes[0].images[-1].get_array()[0, 0], 1.8 * 2.5, atol=0.01)
    assert found.event == "T2M ≥ 86 °F"
    draw("wind", everything(system="us"))
    np.testing.assert_allclose(canvases[-1].axes[0].images[-1].get_array()[0, 0], 11 / 0.514444, rtol=1e-5)
    assert canvases[-1].axes[1].get_xlabel() == "speed (kt)"


def test_units_are_written_as_people_write_them():
    assert shown(variable=U10, threshold=10.3).event == "U10 ≥ 10.3 m/s"
    assert shown(variable=CAPE, threshold=1000.0).event == "CAPE ≥ 1000 J/kg"


def test_the_difference_is_that_of_the_mean_from_hrrr(canvases):
    found = everything()
    draw("difference", found)
    np.testing.assert_allclose(canvases[0].axes[0].images[-1].get_array(), found.mean - found.reference)


def test_every_member_has_a_stamp(canvases):
    drawn = members(11)
    draw("stamps", shown(drawn))
    titles = [axes.get_title(loc="left") for axes in canvases[0].axes if axes.axison and axes.images]
    assert titles == [str(number) for number in range(11)]
    assert [axes.images[-1].get_array().max() for axes in canvases[0].axes[:11]] == [55] * 11


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


def test_states_and_counties_are_lines_of_the_united_states_and_cross_the_plains():
    lines = state_lines()
    y0, y1, x0, x1 = REGIONS["southern-plains"]
    region = BaseMap(Grid(y1 - y0, x1 - x0, y0, x0))
    small = BaseMap(Grid(100, 100, 300, 800))

    assert len(lines) > 40
    assert 5 < len(region._states) < len(lines)
    assert region._counties == [], "too many on a map of 1,300 km"
    assert 20 < len(small._counties) < 400
    assert 1 <= len(county_lines(-100.0, 37.7, -99.99, 37.71)) <= 4, "Dodge City lies in Ford County"
    assert BaseMap(GRID, borders=False)._states == [], "the simulated world has no states"


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
