import pytest

from convcast.pictures.geography.places import describe_coordinates, describe_place


@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [
        (37.95, -99.82, "30 km NE of Dodge City, KS"),
        (37.75, -100.02, "at Dodge City, KS"),
        (25.0, -92.0, "at 25.0° N, 92.0° W"),
    ],
)
def test_a_point_is_described_by_the_nearest_town_or_at_sea_by_its_coordinates(latitude, longitude, place):
    assert describe_place(latitude, longitude) == place


def test_coordinates_say_the_hemisphere():
    assert describe_coordinates(-12.34, 5.0) == "at 12.3° S, 5.0° E"
