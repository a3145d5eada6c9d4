"""latest/index.html: what it says and shows, never half, and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from convcast.forecasts.products import make_products
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.operations.history import ScoreHistory
from convcast.operations.page import pictures as pictures_module, write_page
from convcast.settings import ProductSettings
from convcast.variables import REFC, T2M
from convcast.workspace import create_workspace

NOW = np.datetime64("2024-05-20T05", "h")
GRID = Grid(12, 16, 300, 800)
DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000 01f15c4890000000d49444154789c6360f8cf500f000"
    "3860180a5c1d9e20000000049454e44ae426082".replace(" ", "")
)
"""A PNG of one point."""


def forecast(place, init=NOW, *, leads=(1,), products=True, simulated=0, model="m", members=8, **identity):
    description = ForecastDescription(
        init,
        leads,
        leads,
        (REFC, T2M),
        GRID,
        {"simulated": simulated, "seed": 0, **identity},
        {"model": model, "title": "t"},
    )
    store = EnsembleStore.prepare(place.forecast(init), description, members=members)
    for lead in leads:
        for member in range(members):
            refc = np.full(GRID.shape, 5.0)
            refc[3:8, 2 : 4 + member] = 45
            store.write(member, lead, np.stack([refc, np.full(GRID.shape, 290.0)]))
    if products:
        make_products(
            place.forecast(init),
            place.product(init),
            description,
            members=range(members),
            leads=leads,
            settings=ProductSettings(),
        )
    return leads


def scored(place, *, age=1, systems=("convcast", "persistence")):
    """A case whose forecast came true `age` hours before now, persistence twice as bad."""
    history = ScoreHistory(place.root / "history")
    history.folder.mkdir(exist_ok=True)
    scores = {name: {"crps": 1.0 + i, "rmse": 2.0, "spread": 2.0} for i, name in enumerate(systems)}
    case = {"init": str(NOW - (age + 1) * HOUR), "lead": 1, "members": 8, "scores": {"refc": scores}}
    with open(history.folder / "2024-05.jsonl", "a") as file:
        file.write(json.dumps(case) + "\n")
    return history


@pytest.fixture
def place(tmp_path):
    return create_workspace(tmp_path / "w")


@pytest.fixture
def quick(monkeypatch):
    """Pictures of one point; gives what was drawn."""
    from convcast.pictures import forecast as pictures

    drawn = []
    monkeypatch.setattr(pictures, "draw", lambda kind, shown: drawn.append((kind, shown)) or DOT)
    return drawn


class Page(HTMLParser):
    """Open tags, addresses and text of a page."""

    def __init__(self, place):
        super().__init__()
        self.open, self.addresses, self.said, self.content = [], [], [], None
        self.source = (place.page / "index.html").read_text()
        self.feed(self.source)
        self.text = " ".join(" ".join(self.said).split())

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.content = json.loads(dict(attrs).get("data-content", "null")) or self.content
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def write(place, leads=(1,), history=None, init=NOW, **words):
    return write_page(place, init, leads, history or ScoreHistory(place.root / "history"), **{"max_age": 3, **words})


ANY_TIME = "any-time-neighbourhood"
KINDS = ["neighbourhood", "probability", "mean", "spread"]


def test_it_shows_all_fields_and_leads_and_asks_nothing_of_other_hosts(place, quick):
    leads = forecast(place, leads=(1, 3))
    assert write(place, leads)
    page = Page(place)

    assert page.open == []
    files = {path.name for path in place.page.iterdir()}
    assert set(page.addresses) <= files
    for said in (
        "2024-05-20 05:00 UTC",
        "8 members, valid 2024-05-20 06:00 to 2024-05-20 08:00 UTC",
        "Probability within 40 km",
        "6 of 8 members",
        "Not verified yet",
    ):
        assert said in page.text
    assert "SIMULATED" not in page.source
    shown = page.content
    assert [field["name"] for field in shown["fields"]] == ["refc", "t2m"], "reflectivity first"
    assert [kind["name"] for kind in shown["kinds"]] == [*KINDS, ANY_TIME, "stamps"], "40-km probabilities first"
    assert shown["leads"] == [
        {"hours": 1, "valid": "2024-05-20 06:00"},
        {"hours": 3, "valid": "2024-05-20 08:00"},
    ]
    assert {picture["name"] for picture in shown["pictures"].values()} == files - {"index.html"}
    assert set(shown["pictures"]) == {
        *(f"{field} {kind} {lead}" for field in ("refc", "t2m") for lead in (1, 3) for kind in [*KINDS, "stamps"]),
        "refc any-time-neighbourhood 3",
    }
    assert [kind for kind, drawn in quick if (drawn.variable, drawn.lead) == (REFC, 3)] == [*KINDS, ANY_TIME, "stamps"]
    (by_then,) = (drawn for kind, drawn in quick if kind == ANY_TIME)
    assert by_then.window == (1, 3)
    assert by_then.any_time_near[0, 0] == 1
    assert by_then.times_of_window == "valid until Mon 2024-05-20 08 UTC (F01, F03, init 05 UTC)"
    assert {len(drawn.members) for kind, drawn in quick if kind == "stamps"} == {6}
    near = next(drawn for kind, drawn in quick if kind == "neighbourhood")
    assert near.radius == 40
    assert near.neighbourhood[0, 0] == 1, "within 40 km of the storm that all have"


def test_an_operator_chooses_the_fields(place, quick):
    forecast(place, products=False)
    write(place, fields=("t2m", "cape"))
    assert [field["name"] for field in Page(place).content["fields"]] == ["t2m"]
    assert {shown.variable for _, shown in quick} == {T2M}


@pytest.mark.parametrize("products", [True, False])
def test_a_sentence_says_how_high_the_probability_is_and_where_and_when(place, quick, products):
    forecast(place, products=products)
    write(place)
    fields = Page(place).content["fields"]
    assert fields[0]["highest"] == (
        "Highest probability of REFC ≥ 40 dBZ within 40 km: 100 %, 20 km SW of Sweetwater, TX at 06 UTC."
    )
    assert fields[1]["highest"] == "No member has T2M ≥ 303.15 K."

    forecast(place, NOW + HOUR, simulated=1, products=products)
    write(place, init=NOW + HOUR)
    assert re.search(r"100 %, at \d\d\.\d° N, \d+\.\d° W at 07 UTC", Page(place).content["fields"][0]["highest"])


def test_members_alone_have_all_maps_and_products_alone_no_members(place, quick):
    forecast(place, products=False)
    write(place, near=9)
    assert {kind for kind, _ in quick} == {*KINDS, "stamps"}
    assert {shown.radius for kind, shown in quick if kind == "neighbourhood"} == {9}
    assert "Probability within 9 km" in Page(place).text

    forecast(place)
    shutil.rmtree(place.forecast(NOW))
    quick.clear()
    write(place)
    assert {kind for kind, _ in quick} == set(KINDS)


def test_it_warns_of_what_verification_found_and_links_to_the_report(place, quick):
    forecast(place)
    folder = place.verification("operational")
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("a report")
    (folder / "certificate.html").write_text("a certificate")
    row = {"field": "refc", "lead_hours": 1, "score": "frequency_bias", "system": "convcast", "threshold": 50.0}
    for identity, said in (
        ("another", []),
        ("", ["REFC ≥ 50 dBZ is forecast 9.0 times too often (7.0 to 11.0 times as often as observed)."]),
    ):
        document = {"facts": {"models": [identity]}, "scores": [row | {"value": 9.0, "low": 7.0, "high": 11.0}]}
        (folder / "scores.json").write_text(json.dumps(document))
        write(place)
        assert Page(place).content["warnings"] == {"refc 1": said, "t2m 1": []}
        assert {kind for kind, shown in quick if list(shown.warnings) == said and shown.variable == REFC} >= set(KINDS)
        drawn = len(quick)
        write(place)
        assert len(quick) == drawn, "pictures are drawn once"
        assert not any(shown.warnings for _, shown in quick if shown.variable == T2M)
    assert "../verification/operational/report.html" in Page(place).addresses
    assert "../verification/operational/certificate.html" in Page(place).addresses


def test_scores_stand_beside_persistence_with_n_and_dates(place, quick):
    forecast(place)
    scored(place, age=23)
    scored(place, age=24)  # came true before the last day
    history = scored(place, age=0)
    write(place, history=history)

    text = Page(place).text
    assert "Not verified yet" not in text
    assert "1 h ahead valid 2024-05-19 06:00 to 2024-05-20 05:00 UTC" in text
    assert "REFC dBZ 2 1 2 +50 1.06" in text
    assert "fair CRPS" in text


def test_without_persistence_there_is_a_dash_and_older_scores_are_named_by_their_date(place, quick):
    forecast(place)
    write(place, history=scored(place, age=30))
    text = Page(place).text
    assert "Not verified yet" in text
    assert "The last that was scored started at 2024-05-18 22:00 UTC" in text

    write(place, history=scored(place, systems=("convcast",)))
    assert "REFC dBZ 1 1 – – 1.06" in Page(place).text


def test_simulated_weather_is_marked_and_its_clock_is_not_ours(place, quick):
    forecast(place, simulated=1)
    write(place)
    page = Page(place)
    assert "SIMULATED weather" in page.text
    assert "<title>SIMULATED" in page.source
    assert 'id="age"' not in page.source
    assert all(shown.simulated for _, shown in quick)


@pytest.mark.parametrize(
    ("identity", "said", "name"),
    [
        ({"model_sha256": "0123456789abcdef"}, ", model m.", "0123456789ab"),
        (
            {"model_sha256": "0123456789abcdef", "method": "walks", "walks": 2},
            ", 2 walks an hour about the reference forecast of model m.",
            "0123456789ab walks",
        ),
    ],
)
def test_it_says_by_what_the_ensemble_was_made_and_has_the_warnings_of_that(place, quick, identity, said, name):
    forecast(place, **identity)
    folder = place.verification("operational")
    folder.mkdir(parents=True)
    row = {"field": "refc", "lead_hours": 1, "score": "frequency_bias", "system": "convcast", "threshold": 50.0}
    document = {"facts": {"models": [name]}, "scores": [row | {"value": 9.0, "low": 7.0, "high": 11.0}]}
    (folder / "scores.json").write_text(json.dumps(document))
    write(place)
    page = Page(place)
    assert said in page.source
    assert len(page.content["warnings"]["refc 1"]) == 1
    assert all(said[2:-1] in shown.source for _, shown in quick)


def test_text_is_escaped(place, quick):
    forecast(place, model="<script>alert(1)</script>\u202e{{ 7 * 7 }}\x1b")
    write(place)
    source = Page(place).source
    assert "<script>alert" not in source
    assert "model &lt;script&gt;alert(1)&lt;/script&gt;\\u202e{{ 7 * 7 }}\\x1b" in source


def test_pictures_are_drawn_once_and_those_of_another_ensemble_anew(place, quick):
    forecast(place, products=False)
    assert write(place)
    drawn = len(quick)
    assert not write(place)
    assert write(place, history=scored(place))
    assert len(quick) == drawn

    shutil.rmtree(place.forecast(NOW))
    forecast(place, products=False, members=5)
    write(place)
    assert len(quick) == 2 * drawn
    assert "of 5 members" in Page(place).text


def test_pictures_of_the_forecast_before_stay_for_who_is_reading_it_and_no_longer(place, quick):
    for hours in range(3):
        forecast(place, NOW + hours * HOUR, products=False)
        write(place, init=NOW + hours * HOUR)
    (place.page / "logo.png").write_bytes(DOT)
    write(place, init=NOW + 2 * HOUR)

    starts = {path.name[:11] for path in place.page.glob("2*.png")}
    assert starts == {"20240520T06", "20240520T07"}
    assert (place.page / "logo.png").exists(), "what is not ours stays"


def test_a_page_appears_after_its_pictures_and_whole_or_not_at_all(place, quick, monkeypatch):
    forecast(place, products=False)
    write(place)
    before = Page(place)
    forecast(place, NOW + HOUR, products=False)
    wrote = pictures_module.write_bytes
    left = iter(range(3))

    def full_disk(path, data):
        next(left, None) is not None or (_ for _ in ()).throw(OSError(28, "No space left on device"))
        wrote(path, data)

    monkeypatch.setattr(pictures_module, "write_bytes", full_disk)
    with pytest.raises(OSError):
        write(place, init=NOW + HOUR)

    after = Page(place)
    assert after.source == before.source
    assert all((place.page / address).is_file() for address in after.addresses)
    assert not list(place.page.glob("*.partial"))


def test_a_forecast_that_is_gone_leaves_its_times(place, quick):
    write(place)
    assert "There are no pictures" in Page(place).text
    assert quick == []


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=4000 --window-size=1300,900"
)
MEASURE = r"""<script>onload = () => {
  const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
  const map = document.getElementById("map");
  const seen = [map.getAttribute("src")];
  press("ArrowRight"); seen.push(map.getAttribute("src"));
  press("ArrowRight"); press("f"); seen.push(map.getAttribute("src"));
  press("3"); seen.push(map.getAttribute("src"));
  document.querySelector("[data-field]").click(); seen.push(map.getAttribute("src"));
  press("1");
  const slider = document.getElementById("lead");
  slider.value = "1"; slider.dispatchEvent(new Event("input")); seen.push(map.getAttribute("src"));
  map.onload = () => parent.postMessage([
    innerWidth, document.documentElement.scrollWidth, map.naturalWidth,
    performance.getEntriesByType("resource").filter(e => !e.name.startsWith("file:")).length,
    document.querySelector(".scroll").scrollWidth - document.querySelector(".scroll").clientWidth,
    getComputedStyle(document.body).backgroundColor.match(/\d+/)[0], map.clientWidth,
    ...seen.map(name => name.replace(/.*?_.*?_/, "").replace(".png", "")),
  ].join(" "), "*");
  press("ArrowRight");
} </script>"""
FRAMES = """<title></title><script>onmessage = e => { document.title += e.data + ";" }</script>
<iframe src="measured.html" width=360 height=900 style="border:0"></iframe>
<iframe src="measured.html" width=1200 height=900 style="border:0"></iframe>"""


def browse(tmp_path, address, *, dark=False):
    words = [CHROMIUM, *QUIET.split(), f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom"]
    words.append(f"--user-data-dir={tmp_path / 'profile'}")
    return subprocess.run([*words, address.as_uri()], capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_it_on_a_phone_and_on_a_desk_and_turns_it_red_when_old(place, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures_module, "DOTS", 60)
    leads = forecast(place, leads=(1, 3))
    write(place, leads, history=scored(place))

    # Its own policy lets its one script run, which says how old it is and shows the first map.
    shown = browse(tmp_path, place.page / "index.html")
    assert re.search(r'class="age old"[^>]*>OLD: started \d+ days ago', shown)
    assert re.search(r'id="clock"[^>]*>1 h ahead, valid 2024-05-20 06:00 UTC<', shown)
    assert re.search(r'id="highest"[^>]*>Highest probability of REFC ≥ 40 dBZ within 40 km: 100 %', shown)

    # Measured under the same policy, but for the script that measures.
    source = re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", Page(place).source)
    (place.page / "measured.html").write_text(source.replace("</body>", MEASURE + "</body>"))
    (place.page / "frames.html").write_text(FRAMES)
    for dark in (False, True):
        found = re.search(r"<title>([\w .;]+)</title>", browse(tmp_path, place.page / "frames.html", dark=dark))
        assert found
        measured = sorted((one.split() for one in found[1].strip(";").split(";")), key=lambda one: int(one[0]))
        assert len(measured) == 2
        for width, one in zip((360, 1200), measured, strict=True):
            window, content, natural, elsewhere, hidden, paper, across = map(int, one[:7])
            assert window == width
            assert content <= window, "nothing leaves a phone's screen"
            assert natural > 0
            assert elsewhere == 0
            assert hidden <= 0, "the table of scores fits a phone"
            assert (paper < 60) == dark
            assert across > 0.9 * min(width, 736) - 32, "the map is as wide as the page"
            assert one[7:] == [
                *("refc_f01_neighbourhood", "refc_f03_neighbourhood", "t2m_f01_neighbourhood", "t2m_f01_mean"),
                *("refc_f01_mean", "refc_f03_neighbourhood"),
            ]


def test_its_script_and_styles_are_all_that_its_policy_allows(place, quick):
    forecast(place, products=False)
    write(place)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', Page(place).source)[1]
    assert policy.startswith("default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src 'sha256-")
