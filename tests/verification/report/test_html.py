from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from convcast.conventions import ensemble_dataset
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.grid import Grid
from convcast.settings import VerificationSettings
from convcast.variables import FIELDS
from convcast.verification import evaluate
from convcast.verification.report import figures as report_figures
from convcast.verification.report.figures import draw_figures
from convcast.verification.report.html import headline, render_report, warnings
from convcast.verification.report.save import save
from convcast.workspace import create_workspace

from ..conftest import HOURS, leave_unpainted


@pytest.fixture(scope="module")
def verification(whole):
    under_way = evaluate(
        whole.paths,
        whole.dataset,
        against=["advection", "persistence"],
        settings=whole.settings(),
        workspace=whole.workspace,
    )
    for _ in under_way:
        pass
    return under_way.result()


@pytest.fixture(scope="module")
def laid_out(verification):
    """Figures of one pixel each, matplotlib's figures that they were made of, and the texts beside the axes of each."""
    finished, drawn = report_figures.finish, []
    with pytest.MonkeyPatch.context() as monkeypatch:
        texts = leave_unpainted(monkeypatch)
        monkeypatch.setattr(
            report_figures, "finish", lambda figure, **words: drawn.append(figure) or finished(figure, **words)
        )
        return draw_figures(verification), drawn, texts


@pytest.fixture(scope="module")
def figures(laid_out):
    return laid_out[0]


@pytest.fixture(scope="module")
def painted(verification):
    return draw_figures(verification)


class Page(HTMLParser):
    """Open tags, addresses and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.open, self.addresses, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_and_asks_nothing_of_other_hosts(verification, figures):
    page = Page(render_report(verification, figures))
    assert page.open == []
    assert len(page.addresses) == len(figures)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)


def test_the_page_says_what_was_compared_and_how_surely(verification, figures):
    text = " ".join(" ".join(Page(render_report(verification, figures)).text).split())
    for said in (
        "SIMULATED",
        "4 forecasts of 8 members, started 2024-05-03T06 to 2024-05-04T20 UTC on 2 days, 1 h ahead",
        "Few days: intervals from resampling 2 days are too narrow",
        "95% interval",
        "fair estimator",
        "properscoring",
        "0123456789ab",
    ):
        assert said in text


def test_the_page_tells_the_browser_to_load_nothing_and_run_nothing(verification, figures):
    page = render_report(verification, figures)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert [part.strip() for part in policy.split(";")] == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
    ]
    assert not re.search(r"url\(|@import|<(script|link|iframe|object|form)\b", page)


def test_text_is_escaped(verification, figures):
    spoilt = replace(verification, facts=replace(verification.facts, models=("<script>alert(1)</script>",)))
    page = render_report(spoilt, figures)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    page = render_report(replace(spoilt, facts=replace(spoilt.facts, truth="\x1b[2J\u202e\udcff{{ 7 * 7 }}")), figures)
    assert "\\x1b[2J\\u202e\\udcff{{ 7 * 7 }}" in page
    page.encode()


def test_better_is_said_only_with_an_interval_that_excludes_zero(verification):
    rows = [
        row | {"low": -1.0, "high": 0.1}
        if row["score"] == "crps_difference" and row["field"] == "cape"
        else row | {"low": -1.0, "high": -0.1}
        for row in verification.scores
    ]
    first = headline(replace(verification, scores=rows))[0]
    better, unclear = first.split("; ")
    assert "CAPE" not in better
    assert unclear.startswith("not clearly different from advection on CAPE")


def test_the_page_warns_where_an_interval_excludes_what_is_right(verification, figures):
    def with_bias(low, high):
        rows = [
            row | {"value": 9.1, "low": low, "high": high}
            if (row["score"], row["field"], row.get("threshold")) == ("frequency_bias", "refc", 50.0)
            else row | {"low": None, "high": None}
            for row in verification.scores
        ]
        changed = replace(verification, scores=rows)
        return warnings(changed), render_report(changed, figures)

    said, page = with_bias(7.25, 11.0)
    few = "By intervals from only 2 days."
    assert said == [
        f"At 1 h: REFC ≥ 50 dBZ is forecast 9.1 times too often (7.2 to 11.0 times as often as observed). {few}"
    ]
    assert "forecast 9.1 times too often" in page
    said, page = with_bias(0.9, 20.0)
    assert said == []
    assert "Take care" not in page


def test_a_figure_says_that_it_is_simulated(verification, laid_out, unpainted):
    figures, _, texts = laid_out
    assert ["SIMULATED" in beside for beside in texts] == [True] * len(figures)
    real = draw_figures(replace(verification, facts=replace(verification.facts, simulated=False)))
    assert ["SIMULATED" in beside for beside in unpainted] == [False] * len(real)


def test_no_label_leaves_a_figure_or_lies_on_another_panel(laid_out):
    figures, drawn, _ = laid_out
    for figure, name in zip(drawn, [figure.name for figure in figures], strict=True):
        renderer = figure.canvas.get_renderer()
        boxes = [artist.get_tightbbox(renderer) for artist in (*figure.axes, *figure.texts)]
        for i, box in enumerate(boxes):
            assert figure.bbox.x0 <= box.x0, name
            assert box.x1 <= figure.bbox.x1, name
            assert figure.bbox.y0 <= box.y0, name
            assert box.y1 <= figure.bbox.y1, name
            assert not any(box.overlaps(other) for other in boxes[:i]), name


@pytest.mark.usefixtures("unpainted")
def test_real_weather_without_reflectivity_of_one_day_makes_a_report_too(tmp_path):
    """Verification like that of the real hours: six fields, f01 as analysis, a dry day, persistence alone."""
    workspace = create_workspace(tmp_path / "workspace")
    variables = tuple(v for name, v in FIELDS.items() if name != "refc")
    grid = Grid(12, 20, 500, 600)
    shape = (len(variables), *grid.shape)
    store = Store.create(
        workspace.dataset, DatasetDescription(variables, grid, False, 1), np.zeros((2, *grid.shape), "f4")
    )
    generator = np.random.default_rng(0)
    hours = HOURS[:6]
    for hour in hours:
        values = generator.normal(290, 1, shape).astype(np.float32)
        values[2:4] -= 285
        values[-2:] = 0  # no CAPE, no CIN
        store.write_hour(hour, values)
    store.write_status(hours, HourStatus.OK, [{"valid": str(hour)} for hour in hours])
    members = generator.normal(290, 1, (4, *shape)).astype(np.float32)
    members[:, 2:4] -= 285
    members[:, -2:] = 0
    fields = {v.name: members[:, i, None] for i, v in enumerate(variables)}
    path = workspace.forecast(hours[2])
    ensemble_dataset(
        fields, init=hours[2], members=range(4), leads=[1], grid=grid, attributes={"simulated": False}
    ).to_zarr(path, zarr_format=3, consolidated=False)
    under_way = evaluate(
        [path],
        Dataset.open(workspace.dataset),
        against=["persistence"],
        settings=VerificationSettings(resamples=100),
        workspace=workspace,
    )
    assert len(list(under_way)) == 1
    result = under_way.result()
    save(result, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert result.case.variable is FIELDS["cape"]
    assert "SIMULATED" not in page
    assert "All forecasts start on one day" in page
    assert result.find("cape", "brier", "convcast")["note"] == "no events"
    assert result.find("t2m", "crps", "convcast")["low"] is None


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --virtual-time-budget=4000 --window-size=1300,900"
)
MEASURE = r"""<script>onload = () => {
  const pictures = [...document.images];
  parent.postMessage([
    document.documentElement.scrollWidth, innerWidth, pictures.filter(i => !i.naturalWidth).length,
    Math.min(...pictures.map(i => i.clientWidth / i.naturalWidth)), performance.getEntriesByType("resource")
      .filter(e => !e.name.startsWith("data:")).length,
    parseFloat(getComputedStyle(document.querySelector(".headline p")).fontSize),
    getComputedStyle(document.body).backgroundColor.match(/\d+/)[0],
  ].join(" "), "*") }</script>"""
FRAME = """<title>nothing</title><script>onmessage = e => { document.title = e.data }</script>
<iframe src="report.html" width=WIDTH height=900 style="border:0"></iframe>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(("width", "dark"), [(360, True), (390, False), (800, False), (1200, True)])
def test_a_browser_shows_the_page_on_a_phone_and_on_a_desk(verification, painted, tmp_path, width, dark):
    # The policy of the page forbids scripts; the test measures with one.
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_report(verification, painted))
    (tmp_path / "report.html").write_text(page.replace("</body>", MEASURE + "</body>"))
    (tmp_path / "frame.html").write_text(FRAME.replace("WIDTH", str(width)))
    words = [
        CHROMIUM,
        *QUIET.split(),
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--dump-dom",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    shown = subprocess.run(
        [*words, (tmp_path / "frame.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    found = re.search(r"<title>([\d. ]+)</title>", shown.stdout)
    assert found, shown.stdout[:500]
    content, window, broken, least_scale, elsewhere, text, paper = map(float, found[1].split())
    assert window == width
    assert content <= window  # nothing but pictures and tables, in their own boxes, goes sideways
    assert broken == 0
    assert least_scale > 0.7  # letters of 10 points stay above 10 pixels
    assert elsewhere == 0
    assert text >= 16
    assert (paper < 60) == dark
