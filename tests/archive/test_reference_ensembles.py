from __future__ import annotations

import numpy as np
import pytest

from convcast.archive import open_archives
from convcast.archive.failures import Bad
from convcast.archive.messages.index import parse, select
from convcast.archive.reference_ensembles import (
    cycle_of,
    products,
    refs_members,
    requests,
    time_lagged_members,
)
from convcast.errors import SettingsError
from convcast.variables import FIELDS

CYCLE = np.datetime64("2026-11-20T06", "h")
NAMES = list(FIELDS)
REFS_LINES = """\
1:0:d=2026112006:REFC:entire atmosphere:3 hour fcst:prob >30:prob fcst 0/14:
2:100:d=2026112006:REFC:entire atmosphere:3 hour fcst:prob >40:prob fcst 0/13:
3:250:d=2026112006:REFC:entire atmosphere:3 hour fcst:prob >50:prob fcst 0/14:
4:380:d=2026112006:CAPE:90-0 mb above ground:3 hour fcst:prob >500:prob fcst 0/14
5:460:d=2026112006:CAPE:90-0 mb above ground:3 hour fcst:prob >5000:prob fcst 0/14
6:500:d=2026112006:APCP:surface:0-3 hour acc fcst:prob >0.254:prob fcst 0/14:process=197
7:600:d=2026112006:CIN:90-0 mb above ground:3 hour fcst:prob <-50:prob fcst 0/14
8:700:d=2026112006:TMP:2 m above ground:3 hour fcst:prob <273.15:prob fcst 0/14
9:800:d=2026112006:JFWPRB:10 m above ground:3 hour fcst:prob >=9 <20:prob fcst 0/14
"""
"""Rows as wgrib2 lists REFS: with a closing colon, without, and with the process."""


def wanted(system, *names):
    table = {product.name: product.spec for product in products(system)}
    return [table[name] for name in names]


def offsets(text, wanted, lead):
    rows = parse(text)
    cycle = rows[0].cycle
    init = np.datetime64(f"{cycle[:4]}-{cycle[4:6]}-{cycle[6:8]}T{cycle[8:]}", "h")
    spans, lacking = select(rows, wanted, init=init, lead=lead)
    return {span.spec.name: span.start for span in spans}, {one.name for one in lacking}


def test_real_mean_of_href(shared_data):
    text = (shared_data / "href/href.t00z.conus.mean.f24.grib2.idx").read_text()
    means = [product.spec for product in products("href") if product.kind == "mean"]
    assert offsets(text, means, 24) == (
        {"t2m_mean": 18234028, "d2m_mean": 22067016, "cape_mean": 1115712, "cin_mean": 2924957},
        set(),
    )


def test_real_probability_of_href(shared_data):
    lines = (shared_data / "href/href_prob_f06_real_lines.idx.txt").read_text().splitlines(keepends=True)[1:]
    assert offsets("".join(lines), wanted("href", "refc_probability_40", "refc_probability_50"), 6) == (
        {"refc_probability_40": 2297069},
        {"refc_probability_50"},
    )


def test_probabilities_of_refs_are_told_apart_by_threshold_and_layer():
    asked = [product.spec for product in products("refs") if product.kind == "probability"]
    there, _ = offsets(REFS_LINES, asked, 3)
    assert there == {
        "refc_probability_30": 0,
        "refc_probability_40": 100,
        "refc_probability_50": 250,
        "cape_probability_500_mixed_layer": 380,
        "cin_probability_-50_mixed_layer": 600,
        "t2m_probability_273.15": 700,
    }


def test_point_in_threshold_is_no_wildcard():
    text = REFS_LINES.replace("prob <273.15", "prob <273515")
    assert "t2m_probability_273.15" not in offsets(text, wanted("refs", "t2m_probability_273.15"), 3)[0]


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("t2m_mean", "wt ens mean"),
        ("t2m_mean", "ens mean"),
        ("t2m_spread", "ens spread"),
        ("t2m_spread", "ens std dev"),
    ],
)
def test_wordings_of_mean_and_spread(name, rest):
    text = f"1:0:d=2026112006:TMP:2 m above ground:3 hour fcst:{rest}\n"
    assert offsets(text, wanted("refs", name), 3) == ({name: 0}, set())


def test_mean_is_not_taken_for_spread():
    text = "1:0:d=2026112006:TMP:2 m above ground:3 hour fcst:wt ens mean\n"
    assert offsets(text, wanted("refs", "t2m_spread"), 3) == ({}, {"t2m_spread"})


def test_two_matched_means_are_refused():
    row = "{}:{}:d=2026112006:REFC:entire atmosphere:3 hour fcst:\n"
    with pytest.raises(Bad, match="2 times"):
        offsets(row.format(1, 0) + row.format(2, 50), wanted("refs", "refc_matched_mean"), 3)


def test_names_of_products_are_unique():
    for system in ("refs", "href"):
        names = [product.name for product in products(system)]
        assert len(names) == len(set(names))


def test_mixed_layer_is_not_comparable_with_the_surface_parcel():
    assert {p.variable.name for p in products("refs") if not p.comparable} == {"cape", "cin"}


def test_reflectivity_is_a_neighbourhood_event_and_the_others_are_not():
    near = {(p.variable.name, p.neighbourhood) for p in products("href") if p.kind == "probability"}
    assert near == {("refc", 40.6), ("t2m", None), ("d2m", None), ("cape", None), ("cin", None)}


def test_wind_components_are_in_refs_alone():
    assert {system: "u10_mean" in [p.name for p in products(system)] for system in ("refs", "href")} == {
        "refs": True,
        "href": False,
    }


def test_refs_has_fourteen_members_of_two_ages():
    members = refs_members(CYCLE, 3)
    assert (len(members), {m.file.valid for m in members}) == (14, {CYCLE + 3})
    assert [(m.file.model, m.file.member, m.file.lead) for m in members if m.age == 6] == [
        ("rrfs", None, 9),
        *(("rrfs", n, 9) for n in range(1, 6)),
        ("hrrr", None, 9),
    ]


@pytest.mark.parametrize(("lead", "count"), [(42, 14), (48, 13), (54, 12), (60, 6)])
def test_old_members_end_before_new_ones(lead, count):
    assert len(refs_members(CYCLE, lead)) == count


@pytest.mark.parametrize(("init", "cycle"), [(6, 6), (11, 6), (12, 12), (23, 18)])
def test_last_cycle_of_an_hour(init, cycle):
    day = np.datetime64("2026-11-20T00", "h")
    assert cycle_of(day + init) == day + cycle


def test_time_lagged_members_are_for_the_same_hour():
    members = time_lagged_members(CYCLE, 2, (1, 2, 3))
    assert [(m.file.lead, m.file.valid) for m in members] == [(3, CYCLE + 2), (4, CYCLE + 2), (5, CYCLE + 2)]


def test_six_leads_cover_every_hour_once(tmp_path):
    hours = CYCLE + np.arange(12)
    files = [r.file for r in requests("href", open_archives(tmp_path), hours, range(1, 7), ["refc"])]
    assert sorted(f.valid for f in files if f.product == "prob") == hours.tolist()


def test_members_that_two_cycles_share_are_asked_for_once(tmp_path):
    hours = np.array([CYCLE + 9, CYCLE + 9], "datetime64[h]")
    asked = requests("refs", open_archives(tmp_path), hours, (3, 9), NAMES, derived=False)
    assert len(asked) == len({r.file for r in asked}) == 21


def test_requests_lie_in_their_rooms(tmp_path):
    asked = requests("refs", open_archives(tmp_path), np.array([CYCLE + 3]), (3,), NAMES)
    rooms = {(r.file.model, r.path.relative_to(tmp_path).parts[0]) for r in asked}
    assert rooms == {("refs", "refs"), ("rrfs", "refs"), ("hrrr", "hrrr")}


def test_analysis_of_an_ensemble_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no analysis"):
        requests("refs", open_archives(tmp_path), np.array([CYCLE]), (0, 1), NAMES)


def test_unknown_system_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no reference ensemble 'sref'"):
        requests("sref", open_archives(tmp_path), np.array([CYCLE]), (1,), NAMES)
