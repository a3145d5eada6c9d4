"""Alerts are sent once for each event that is probable within the radius of a point."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from convcast.forecasts.products import make_products
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.operations.alerts import find_alert, send_alerts
from convcast.settings import AlertPoint, ProductSettings
from convcast.variables import CIN, REFC
from convcast.workspace import create_workspace

NOW = np.datetime64("2024-05-20T05", "h")
GRID = Grid(30, 40, 300, 800)
STORM = 10, 20
"""Row and column of the one cell that has an echo of 45 dBZ in 3 of 4 members at 1 h, and in 1 of 4 at 3 h."""


@pytest.fixture
def place(tmp_path):
    place = create_workspace(tmp_path / "w")
    forecast(place, NOW)
    return place


def forecast(place, init):
    description = ForecastDescription(
        init, (1, 3), (1, 3), (REFC, CIN), GRID, {"simulated": 1}, {"model": "m", "title": "t"}
    )
    store = EnsembleStore.prepare(place.forecast(init), description, members=4)
    for lead, having in ((1, 3), (3, 1)):
        for member in range(4):
            values = np.stack([np.full(GRID.shape, -10.0), np.zeros(GRID.shape)])
            if member < having:
                values[:, STORM[0], STORM[1]] = 45, -150
            store.write(member, lead, values)
    return description


def point(cells=0, **words):
    """So many cells east of the storm."""
    latitude, longitude = (degrees[STORM[0], STORM[1] + cells] for degrees in GRID.latitude_longitude())
    asked = {"field": "refc", "threshold": 40, "probability": 50} | words
    return AlertPoint(latitude=float(latitude), longitude=float(longitude), **asked)


def products_alone(place):
    description = ForecastDescription(
        NOW, (1, 3), (1, 3), (REFC, CIN), GRID, {"simulated": 1}, {"model": "m", "title": "t"}
    )
    make_products(
        place.forecast(NOW),
        place.product(NOW),
        description,
        members=range(4),
        leads=(1, 3),
        settings=ProductSettings(),
    )
    shutil.rmtree(place.forecast(NOW))


@pytest.mark.parametrize("kept", ["members", "products"])
def test_the_largest_probability_near_the_point_is_what_counts(place, kept):
    if kept == "products":
        products_alone(place)
    found = find_alert(place, NOW, point(name="Town hall"))
    assert found == {
        "workspace": str(place.root),
        "simulated": True,
        "init": "2024-05-20T05",
        "name": "Town hall",
        "latitude": pytest.approx(found["latitude"]),
        "longitude": pytest.approx(found["longitude"]),
        "field": "refc",
        "threshold": 40,
        "radius_km": 0,
        "units": "dBZ",
        "limit": 50,
        "lead_hours": 1,
        "valid": "2024-05-20T06",
        "probability": 75.0,
        "leads": [{"lead_hours": 1, "valid": "2024-05-20T06", "probability": 75.0}],
    }
    # 5 cells are 15 km of the projection, which enlarges by up to 1 % here.
    assert find_alert(place, NOW, point(5, radius_km=15.2))["probability"] == 75
    assert find_alert(place, NOW, point(5, radius_km=14.5)) is None
    assert find_alert(place, NOW, point(probability=75)) is None, "75 % does not exceed 75 %"
    assert len(find_alert(place, NOW, point(probability=20))["leads"]) == 2
    assert find_alert(place, NOW, point(field="cin", threshold=-100))["probability"] == 75, "strong inhibition is low"


def test_a_limit_that_products_do_not_have_is_asked_of_members_or_refused(place):
    assert find_alert(place, NOW, point(threshold=43))["probability"] == 75
    products_alone(place)
    (note,) = send_alerts(place, NOW, [point(threshold=43)], send=lambda _: pytest.fail("nothing is known"))
    assert "no probability of refc at 43" in note


def test_a_point_outside_is_named_and_the_others_are_told_of(place):
    alerted = []
    outside = point().model_copy(update={"latitude": 50.0})
    notes = send_alerts(place, NOW, [outside, point()], send=lambda document: alerted.append(document) or ["it failed"])
    assert len(alerted) == 1
    assert "outside the forecast's domain" in notes[0]
    assert notes[1] == "it failed"


def test_it_is_told_once_a_forecast_and_point(place):
    alerted = []

    def tell(document):
        alerted.append((document["init"], document["name"]))
        return []

    send_alerts(place, NOW, [point(name="a")], tell)
    send_alerts(place, NOW, [point(name="a"), point(name="b")], tell)
    forecast(place, NOW + HOUR)
    send_alerts(place, NOW + HOUR, [point(name="a")], tell)
    send_alerts(place, NOW, [point(name="b")], tell)
    assert alerted == [("2024-05-20T05", "a"), ("2024-05-20T05", "b"), ("2024-05-20T06", "a")]


def test_killed_while_telling_it_tells_again_and_a_damaged_memory_forgets(place):
    def killed(document):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        send_alerts(place, NOW, [point()], killed)
    alerted = []
    for text in ("", "[]", "{"):
        place.alerts_sent.write_text(text)
        send_alerts(place, NOW, [point()], lambda document: alerted.append(document) or [])
    assert len(alerted) == 3
