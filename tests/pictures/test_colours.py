from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from colorspacious import cspace_convert
from matplotlib.colors import to_rgb

from convcast.pictures.colours import (
    FEW,
    MEMBERS,
    TABLES,
    bar_labels,
    count_colours,
    difference_colours,
    difference_labels,
    displayed_range,
    field_colours,
    probability_colours,
    spread_colours,
)
from convcast.variables import CAPE, CIN, FIELDS, REFC, STATIC, T2M
from convcast.verification.report.colours import SYSTEMS

READERS = {"everybody": None, "a deuteranope": "deuteranomaly", "a protanope": "protanomaly"}


def seen(colours, reader):
    """The colours (colour, 3) as this reader sees them, in CIELAB (Machado et al. 2009)."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    if reader is not None:
        simulated = {"name": "sRGB1+CVD", "cvd_type": reader, "severity": 100}
        rgb = cspace_convert(rgb, simulated, "sRGB1").clip(0, 1)
    return cspace_convert(rgb, "sRGB1", "CIELab")


def hue(colour):
    return cspace_convert(to_rgb(colour), "sRGB1", "CIELCh")[2]


@pytest.mark.parametrize("variable", [*FIELDS.values(), *STATIC.values()], ids=lambda v: v.name)
def test_every_field_has_colours_for_all_it_may_be(variable):
    colours, scale = field_colours(variable)
    assert colours(scale(variable.display[0])) != colours(scale(variable.display[1]))


@pytest.mark.parametrize("name", TABLES)
def test_every_step_has_a_colour(name):
    steps = TABLES[name]
    assert len(steps.colours) == len(steps.levels) - 1
    assert list(steps.levels) == sorted(steps.levels)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", TABLES)
def test_stronger_is_darker_for_every_reader(name, reader):
    steps = TABLES[name]
    colours = [*steps.colours, steps.over] if name != "convcast.inhibition" else [steps.under, *steps.colours][::-1]
    assert (np.diff(seen(colours, reader)[:, 0]) < -2).all()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_two_steps_of_reflectivity_are_taken_for_each_other(reader):
    lab = seen(TABLES["convcast.reflectivity"].colours, reader)
    differences = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert np.diag(differences, 1).min() > 5, "neighbours"
    assert differences[np.triu_indices(len(lab), 2)].min() > 10, "all others"


def test_reflectivity_has_the_hues_of_the_weather_service_in_their_order():
    colours, scale = field_colours(REFC)
    assert all(120 < hue(colours(scale(dbz + 1.0))[:3]) < 160 for dbz in range(10, 35, 5)), "green"
    assert all(65 < hue(colours(scale(dbz + 1.0))[:3]) < 95 for dbz in (35, 40)), "yellow"
    assert all(20 < hue(colours(scale(dbz + 1.0))[:3]) < 65 for dbz in (45, 50, 55)), "orange, red"
    assert all(310 < hue(colours(scale(dbz + 1.0))[:3]) < 350 for dbz in (65, 70)), "magenta"
    assert TABLES["convcast.reflectivity"].labels == (20, 30, 40, 50, 60)


@pytest.mark.parametrize(("variable", "none"), [(REFC, -10.0), (CAPE, 0.0), (CIN, 0.0)], ids=["refc", "cape", "cin"])
def test_nothing_is_not_drawn(variable, none):
    colours, scale = field_colours(variable)
    assert colours(scale(none))[3] == 0


def test_no_spread_and_no_probability_are_not_drawn():
    for colours, scale in (spread_colours(20.0), probability_colours()):
        assert colours(scale(0.0))[3] == 0
        assert colours(scale(3.0))[3] == 1


def test_the_scale_of_spread_does_not_depend_on_the_forecast():
    assert spread_colours(REFC.spread_display)[1].boundaries[-1] == 20
    assert spread_colours(1.8 * T2M.spread_display)[1].boundaries[-1] == 10, "°F, rounded"


def test_temperature_has_a_range_for_each_season():
    winter, spring, summer, autumn = (displayed_range(T2M, month) for month in (1, 4, 7, 10))
    assert winter[0] < spring[0] == autumn[0] < summer[0]
    assert winter[1] < spring[1] < summer[1]
    assert displayed_range(REFC, 1) == displayed_range(REFC, 7)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_numbers_of_members_and_few_members_are_told_apart(reader):
    table, firsts = count_colours(50)
    assert firsts == (1, 2, 4, 8, 16, 32)
    lightness = seen(table.colors, reader)[:, 0]
    assert all(a - b > 8 for a, b in pairwise(lightness))
    lab = seen(MEMBERS, reader)
    assert len(MEMBERS) == FEW
    assert np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(FEW, 1)].min() > 10


def test_systems_differ_without_colour():
    assert len({marker for _, marker in SYSTEMS.values()}) == len(SYSTEMS)
    assert len({to_rgb(colour) for colour, _ in SYSTEMS.values()}) == len(SYSTEMS)


def test_the_bar_of_reflectivity_names_what_forecasters_ask_for():
    assert bar_labels(REFC) == (20, 30, 40, 50, 60)
    assert set(bar_labels(REFC)) < set(TABLES[REFC.colour_map].levels)


def test_the_bar_of_differences_names_the_same_on_both_sides():
    for top in (2.0, 40.0, 3.3):
        names = difference_labels(top)
        assert set(names) < set(difference_colours(top)[1].boundaries)
        assert names == tuple(-name for name in reversed(names))
