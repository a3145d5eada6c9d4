"""Draw the pictures of docs/gallery.md, and write the page."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from convcast.pictures.forecast import OF_SEVERAL_LEADS

DOCS = Path(__file__).resolve().parent
PICTURES = {
    "neighbourhood": "The probability of the event anywhere within 40 km, which a warning can be based on.",
    "probability": "The probability at the point itself: lower, since no two members put a storm at the same point.",
    "any-time": "The probability of the event at any of the leads up to this one, at the point.",
    "any-time-neighbourhood": "The same within 40 km: will it come at all in these hours?",
    "stamps": "Every member.",
    "paintball": "The number of members with the event.",
    "spaghetti": "The outline of the event in each member, and of where half of them have it.",
    "maximum": "The highest value of any member: how bad it may become.",
    "matched-mean": "The probability-matched mean: the pattern of the mean, with the values of the members.",
    "mean": "The mean, which is smoother than any weather.",
    "spread": "The standard deviation of the members.",
    "wind": "The mean speed of the wind, and barbs.",
    "difference": "The ensemble mean minus HRRR's own forecast, here that of the simulated publisher.",
}
"""Description of each kind of map."""
HEADER = """\
# Gallery

`docs/generate.py` draws these maps from [a small forecast](example.py) of the simulated world, its exact ensemble of 12
members. On the command line it is `convcast plot --kind KIND`, in [Python](python.md) the line above each map.
`difference` needs HRRR's forecast, which `convcast fetch --what time-lagged` brings.
"""


def lead_of(kind: str) -> int:
    """Lead of a kind's map, hours; maps over several leads show the last."""
    return 2 if kind in OF_SEVERAL_LEADS else 1


def call(kind: str) -> str:
    last = f", lead_time={lead_of(kind)}" if kind in OF_SEVERAL_LEADS else ""
    return f'forecast.convcast.plot("{kind}", "refc", threshold=30{last})'


def gallery_page() -> str:
    parts = [HEADER]
    for kind, what in PICTURES.items():
        parts.append(f"## {kind}\n\n{what}\n\n    {call(kind)}\n\n![{kind}](images/gallery-{kind}.png)\n")
    return "\n".join(parts)


def draw_gallery(kinds: list[str], folder: Path) -> None:
    """Draw these kinds of maps into a folder."""
    from convcast import open_forecast

    sys.path.insert(0, str(DOCS))
    from example import make_forecast, make_hrrr_forecast

    with TemporaryDirectory() as scratch:
        forecast = open_forecast(make_forecast(Path(scratch)))
        make_hrrr_forecast(Path(scratch))
        for kind in kinds:
            picture = forecast.convcast.plot(kind, "refc", threshold=30, lead_time=lead_of(kind))
            picture.save(folder / f"gallery-{kind}.png")
