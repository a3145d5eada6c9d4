from __future__ import annotations

import pytest
from matplotlib.colors import to_rgb

from convcast.pictures.colours import TABLES, field_colours
from convcast.variables import FIELDS, REFC, STATIC
from convcast.verification.report.colours import SYSTEMS


@pytest.mark.parametrize("variable", [*FIELDS.values(), *STATIC.values()], ids=lambda v: v.name)
def test_every_field_has_colours_for_all_it_may_be(variable):
    colours, scale = field_colours(variable)
    assert colours(scale(variable.display[0])) != colours(scale(variable.display[1]))


@pytest.mark.parametrize("name", TABLES)
def test_every_step_has_a_colour(name):
    steps = TABLES[name]
    assert len(steps.colours) == len(steps.levels) - 1
    assert list(steps.levels) == sorted(steps.levels)


def test_no_echo_is_not_drawn_as_rain():
    colours, scale = field_colours(REFC)
    assert min(colours(scale(-10.0))[:3]) > 0.95
    assert min(colours(scale(20.0))[:3]) < 0.5


def test_systems_differ_without_colour():
    assert len({marker for _, marker in SYSTEMS.values()}) == len(SYSTEMS)
    assert len({to_rgb(colour) for colour, _ in SYSTEMS.values()}) == len(SYSTEMS)
