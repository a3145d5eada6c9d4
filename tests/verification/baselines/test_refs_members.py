"""REFS by its members: those that were fetched, the same in every case."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from convcast.archive import fetch_files, open_archives, open_sources
from convcast.archive.reference_ensembles import hrrrcast_members, refs_members, requests
from convcast.errors import MissingInputError, SettingsError
from convcast.notation import HOUR
from convcast.settings import VerificationSettings
from convcast.settings.load import load_settings
from convcast.variables import CIN, FIELDS, REFC, T2M, GribKey
from convcast.verification import evaluate
from convcast.verification.baselines.choose import make_references
from convcast.verification.data.truth import Analyses

from ..conftest import copied
from ..published import GRID, INSIDE, WIDE, forecast, make_workspace, put, weather

INITS = [np.datetime64("2026-11-20T06", "h"), np.datetime64("2026-11-21T09", "h")]
WMO = {"refc": GribKey(0, 16, 5, 10, 0)}


@pytest.fixture(scope="module")
def without_references(tmp_path_factory):
    """The tests copy this workspace and leave it unchanged."""
    return make_workspace(tmp_path_factory.mktemp("refs"), INITS)


@pytest.fixture
def real(without_references, tmp_path):
    return copied(without_references, tmp_path)


@cache
def encoded(file, number, names):
    """Fields of a member, and the messages that hold them."""
    values = {name: weather(FIELDS[name], WIDE, number + 50) for name in names}
    return values, forecast(file, values, keys={} if file.model == "hrrr" else WMO)


def publish(real, init, ahead, *, without=(), rrfs_fields=("refc", "t2m", "cape")):
    """All members of a cycle; RRFS has fewer fields than HRRR, and REFC by the WMO's number."""
    made = {}
    for number, member in enumerate(refs_members(init, ahead)):
        if member.name in without:
            continue
        names = tuple(FIELDS) if member.file.model == "hrrr" else rrfs_fields
        values, messages = encoded(member.file, number, names)
        put(real.workspace, member.file, messages, lacking=set(FIELDS) - set(names))
        made[member.name] = values
    return made


def run(real, against=("refs",)):
    under_way = evaluate(
        [real.workspace.forecast(init) for init in real.inits],
        real.dataset,
        against=against,
        settings=VerificationSettings(resamples=100),
        workspace=real.workspace,
    )
    list(under_way)
    return under_way.result()


def make(real, cases, name="refs"):
    return make_references([name], Analyses(real.dataset), real.workspace, cases=cases, members=6)


def test_members_are_those_of_the_last_cycle_for_the_same_hour(real):
    """A case of 09 UTC takes the cycle of 06, four hours ahead."""
    made = publish(real, INITS[1] - 3 * HOUR, 4)
    (refs,) = make(real, [(INITS[1], 1)]).baselines
    expected = np.stack([values["refc"][INSIDE] for values in made.values()])
    np.testing.assert_array_equal(refs.read(REFC, INITS[1], 1), expected)
    assert len(expected) == 14


def test_a_field_is_compared_by_the_members_that_have_it(real):
    publish(real, INITS[0], 1)
    publish(real, INITS[1] - 3 * HOUR, 4)
    found = run(real)
    sizes = {name: found.find(name, "crps", "refs", estimator="fair")["members"] for name in ("t2m", "cin")}
    assert sizes == {"t2m": 14, "cin": 2}
    assert "14 for REFC T2M CAPE; 2 for D2M U10 V10 CIN" in found.facts.notes[0]
    assert found.find("t2m", "crps_difference", "convcast", reference="refs")["n"] == 2


def test_a_field_of_one_member_is_not_compared(real):
    publish(real, INITS[0], 1, without=["hrrr-6h"])
    publish(real, INITS[1] - 3 * HOUR, 4, without=["hrrr-6h"])
    (refs,) = make(real, [(init, 1) for init in INITS]).baselines
    assert refs.lacks(CIN) == "1 of its members has it"
    assert refs.lacks(T2M) is None
    found = run(real)
    assert "refs on cin, since 1 of its members has it" in found.facts.not_compared
    assert found.find("cin", "crps", "refs") is None
    assert found.find("cin", "crps", "convcast")["n"] == 2


def test_a_case_that_lacks_a_member_is_left_out(real):
    publish(real, INITS[0], 1)
    publish(real, INITS[1] - 3 * HOUR, 4, without=["rrfs-m003"])
    found = run(real)
    assert found.facts.left_out == {"no refs for the case": 1}
    assert found.find("t2m", "crps", "refs", estimator="fair")["members"] == 14


@pytest.mark.parametrize("name", ["refs", "href"])
def test_nothing_there_names_the_command_that_brings_it(real, name):
    with pytest.raises(MissingInputError, match="holds nothing of") as caught:
        make(real, [(init, 1) for init in INITS], name)
    assert f"convcast fetch --what {name} --leads 1,4 --start 2026-11-20T07 --end 2026-11-21T10" in caught.value.advice


def test_refs_stands_for_href_where_href_is_no_more_and_says_so(real):
    publish(real, INITS[0], 1)
    publish(real, INITS[1] - 3 * HOUR, 4)
    found = run(real, ["href"])
    assert found.facts.systems == ("convcast", "refs")
    assert "REFS, which replaces it, stands in its place" in found.facts.notes[0]


def test_the_simulated_world_has_none(small):
    with pytest.raises(SettingsError, match="simulated world has no refs"):
        make_references(["refs"], Analyses(small.dataset), small.workspace, cases=[(INITS[0], 1)], members=8)


def test_a_damaged_member_leaves_the_case_out(real):
    publish(real, INITS[0], 1)
    publish(real, INITS[1] - 3 * HOUR, 4)
    member = refs_members(INITS[0], 1)[1]
    other = refs_members(INITS[0], 2)[1]
    values = {name: weather(FIELDS[name], WIDE, 1) for name in ("refc", "t2m", "cape")}
    put(real.workspace, member.file, forecast(other.file, values, keys=WMO), lacking=("d2m", "u10", "v10", "cin"))
    (reason,) = run(real).facts.left_out
    assert reason.startswith("refs cannot be read")


def test_members_of_a_smaller_area_than_the_truth_are_not_taken(real):
    for member in refs_members(INITS[0], 1):
        values = {name: weather(FIELDS[name], GRID, 1)[4:, :] for name in ("t2m", "refc")}
        put(real.workspace, member.file, forecast(member.file, values, grid=GRID.crop(slice(4, 24), slice(0, 36))))
    real = replace(real, inits=real.inits[:-1])
    with pytest.raises(MissingInputError, match="does not cover"):
        run(real)


def test_fetched_members_are_compared(real, tmp_path):
    """The same forecasts, fetched from a folder laid out as the bucket, score the same."""
    publish(real, INITS[0], 1)
    first = replace(real, inits=INITS[:1])
    expected = run(first)
    bucket, archive = tmp_path / "bucket", real.workspace.archive
    for path in archive.rglob("*.grib2"):
        there = bucket / path.relative_to(archive / path.relative_to(archive).parts[0])
        there.parent.mkdir(parents=True, exist_ok=True)
        path.rename(there)
    shutil.rmtree(archive)
    settings = load_settings(flags={"archive": {"retries": 0, "workers": 2}})
    valid = np.array([INITS[0] + HOUR])
    asked = requests("refs", open_archives(archive), valid, (1,), list(FIELDS), derived=False)
    with open_sources([str(bucket)], workspace=real.workspace, settings=settings) as sources:
        outcomes = list(fetch_files(asked, sources, settings=settings.archive, now=valid[0] + 1000 * HOUR))
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert run(first).scores == expected.scores


def test_members_of_hrrrcast_are_compared_on_the_same_cases(real):
    made = {}
    for init in INITS:
        for number, member in enumerate(hrrrcast_members(init, 1)[:5]):
            values = {name: weather(FIELDS[name], WIDE, number + 90) for name in ("refc", "t2m")}
            put(real.workspace, member.file, forecast(member.file, values), lacking=set(FIELDS) - {"refc", "t2m"})
            made[init, number] = values
    verification = run(real, ("hrrrcast",))
    assert verification.facts.systems == ("convcast", "hrrrcast")
    assert {r["members"] for r in verification.scores if r["system"] == "hrrrcast"} == {5}
    assert {r["field"] for r in verification.scores if r["system"] == "hrrrcast"} == {"refc", "t2m"}
    assert any("HRRRCast is compared by its members" in note for note in verification.facts.notes)
    (baseline,) = make(real, [(INITS[0], 1)], "hrrrcast").baselines
    np.testing.assert_allclose(baseline.read(T2M, INITS[0], 1)[3], made[INITS[0], 3]["t2m"][INSIDE], atol=1 / 16)


def test_hrrrcast_that_was_not_fetched_is_named_with_its_command(real):
    with pytest.raises(MissingInputError, match="holds nothing of HRRRCast") as raised:
        make(real, [(INITS[0], 1)], "hrrrcast")
    assert "--what hrrrcast --leads 1" in raised.value.advice
