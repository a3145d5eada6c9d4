"""HRRRCast over HTTP: each fault is named, costs one file, and no mean or spread is taken for a member."""

from __future__ import annotations

import shutil

import laboratory as lab
import numpy as np
import pytest
from laboratory import Rule
from spin_up import short_spin_up

from convcast.archive import fetch_files, locations, open_archives, open_sources, verify_archive
from convcast.archive.locations import GribFile, bucket_path
from convcast.archive.reference_ensembles import HRRRCAST_MEMBERS, requests
from convcast.archive.simulated.publisher import Publisher
from convcast.archive.simulated.server import serve
from convcast.archive.web import http
from convcast.grib import read_messages
from convcast.notation import HOUR
from convcast.settings import SimulationSettings
from convcast.settings.load import load_settings
from convcast.variables import FIELDS
from convcast.workspace import Workspace

SETTINGS = SimulationSettings(size=32, start="2024-05-09T00", days=1, seed=5)
CYCLE, LEAD = np.datetime64("2024-05-09T07", "h"), 2
MEMBER = GribFile("hrrrcast", "pgrb2", CYCLE, LEAD, 4)
MEAN, SPREAD = (GribFile("hrrrcast", name, CYCLE, LEAD) for name in ("avg", "spr"))
NAMES = tuple(FIELDS)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Cycles of HRRRCast as the simulated publisher writes them."""
    root = tmp_path_factory.mktemp("hrrrcast")
    with short_spin_up():
        publisher = Publisher(root, SETTINGS)
        for cycle in (CYCLE, CYCLE + HOUR):
            publisher.publish(str(bucket_path(GribFile("hrrrcast", "avg", cycle, LEAD))))
    return root


@pytest.fixture
def bring(published, tmp_path, monkeypatch):
    """Fetch a cycle's lead from a server, or a folder, of the bucket; return status and reason by file."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    bucket = tmp_path / "bucket"
    shutil.copytree(published, bucket)

    def bring(*rules, folder=False, age=1000, change=None, **parts):
        if change is not None:
            change(bucket)
        settings = load_settings(flags={"archive": {"retries": 1, "read_timeout": 0.5, "workers": 2}})
        archives = open_archives(tmp_path / "archive")
        asked = requests("hrrrcast", archives, np.array([CYCLE + LEAD * HOUR]), (LEAD,), NAMES, **parts)
        with serve(bucket, handler=lab.faulty(lab.Script(list(rules)))) as server:
            name = str(bucket) if folder else server.url
            with open_sources([name], workspace=Workspace(tmp_path), settings=settings) as sources:
                now = CYCLE + np.timedelta64(age, "h")
                found = list(fetch_files(asked, sources, settings=settings.archive, now=now))
        held = archives["hrrrcast"]
        for request, outcome in ((r, next(o for o in found if o.file == r.name)) for r in asked):
            whole = held.has(request.path, [spec.name for spec in request.specs]) is not None
            assert whole == (outcome.status in ("ok", "cached")), outcome
        return {outcome.file: (outcome.status, outcome.reason) for outcome in found}

    return bring


def of(outcomes, file):
    return outcomes[str(locations.archive_path(file))]


def only(outcomes, file):
    """The outcome of this file, all others being there."""
    found = of(outcomes, file)
    others = {status for name, (status, _) in outcomes.items() if name != str(locations.archive_path(file))}
    assert others <= {"ok", "cached"}
    return found


@pytest.mark.parametrize("folder", [False, True], ids=["server", "folder"])
def test_members_mean_and_spread_are_fetched_once(bring, tmp_path, folder):
    first = bring(folder=folder)
    assert len(first) == HRRRCAST_MEMBERS + 2
    assert {status for status, _ in first.values()} == {"ok"}
    assert {status for status, _ in bring(folder=folder).values()} == {"cached"}
    archive = open_archives(tmp_path / "archive")["hrrrcast"]
    assert {outcome.status for outcome in verify_archive(archive)} == {"ok"}
    kept = [m.variable for m in archive.sidecar(archive.root / locations.archive_path(MEAN)).messages]
    assert set(kept) == {"refc_matched_mean", *(f"{name}_mean" for name in NAMES if name != "refc")}


@pytest.mark.parametrize(("parts", "count"), [({"derived": False}, 18), ({"members": False}, 2)])
def test_members_or_products_alone_can_be_fetched(bring, parts, count):
    assert len(bring(**parts)) == count


@pytest.mark.parametrize(
    ("answer", "times", "status"),
    [
        (lab.status(503), 1, "ok"),
        (lab.status(503), 9, "transient"),
        (lab.reset, 1, "ok"),
        (lab.truncate, 1, "ok"),
        (lab.truncate, 9, "transient"),
        (lab.break_off, 9, "transient"),
        (lab.stall, 9, "transient"),
        (lab.ignore_range, 9, "bad"),
        (lab.page, 9, "bad"),
    ],
)
def test_faults_of_the_server(bring, answer, times, status):
    ending = str(bucket_path(MEMBER))
    assert only(bring(Rule(ending, answer, times)), MEMBER)[0] == status


def remove(file, *, index=True):
    def change(bucket):
        path = bucket / bucket_path(file)
        path.unlink(missing_ok=True)
        if index:
            path.with_name(f"{path.name}.idx").unlink(missing_ok=True)

    return change


@pytest.mark.parametrize("folder", [False, True], ids=["server", "folder"])
@pytest.mark.parametrize(("age", "status"), [(6, "late"), (1000, "gap")])
@pytest.mark.parametrize("file", [MEMBER, MEAN], ids=["member", "mean"])
def test_an_absent_file_is_late_for_hours_and_then_a_gap(bring, file, age, status, folder):
    assert only(bring(change=remove(file), age=age, folder=folder), file)[0] == status


def test_a_file_whose_index_is_not_there_yet_is_late(bring):
    def change(bucket):
        path = bucket / bucket_path(MEMBER)
        path.with_name(f"{path.name}.idx").unlink()

    status, reason = only(bring(change=change, age=6), MEMBER)
    assert (status, reason.split(": ")[1]) == ("late", "the file has no index")


def cut(bucket):
    path = bucket / bucket_path(MEMBER)
    path.write_bytes(path.read_bytes()[:-400])


def put_another(other):
    """Let another file of the publisher stand under the member's name, with its index."""

    def change(bucket):
        wrong, path = (bucket / bucket_path(file) for file in (other, MEMBER))
        path.write_bytes(wrong.read_bytes())
        index = wrong.with_name(f"{wrong.name}.idx").read_text()
        path.with_name(f"{path.name}.idx").write_text(index.replace("d=2024050908", "d=2024050907"))

    return change


def swap_rows(bucket):
    """An index that is older than its file: T2M and TMP at 850 mb change places."""
    path = bucket / bucket_path(MEMBER)
    index = path.with_name(f"{path.name}.idx")
    text = index.read_text()
    text = text.replace(":TMP:2 m above ground:", ":TMP:here:").replace(":TMP:850 mb:", ":TMP:2 m above ground:")
    index.write_text(text.replace(":TMP:here:", ":TMP:850 mb:"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put_another(GribFile("hrrrcast", "pgrb2", CYCLE + HOUR, LEAD, 4)), "cycle of 2024-05-09T08"),
        (swap_rows, "another field or lead"),
    ],
    ids=["another cycle", "another field"],
)
def test_a_wrong_message_is_bad_and_stops_no_other_file(bring, change, said):
    status, reason = only(bring(change=change), MEMBER)
    assert (status, said in reason) == ("bad", True), reason


def test_a_file_that_is_cut_short_is_not_taken(bring):
    status, reason = only(bring(change=cut), MEMBER)
    assert (status, "index ends before" in reason) == ("bad", True), reason


def test_an_index_cut_short_is_not_a_member_without_a_field(bring):
    rule = Rule(f"{bucket_path(MEMBER)}.idx", lab.lines(lambda rows: rows[:-1]))
    status, reason = only(bring(rule), MEMBER)
    assert (status, "index ends before" in reason) == ("bad", True), reason


def test_mean_and_spread_never_stand_for_a_member(bring, tmp_path, published):
    """Their messages are encoded as a member's, so that nothing but the name of the file keeps them apart."""
    headers = {
        file: {(h.key, h.init, h.lead_hours) for h in (m.header for m in read_messages(published / bucket_path(file)))}
        for file in (MEMBER, MEAN, SPREAD)
    }
    assert headers[MEMBER] == headers[MEAN] == headers[SPREAD]
    bring()
    archive = open_archives(tmp_path / "archive")["hrrrcast"]
    assert len([path for path in archive.files() if path.name.startswith("hrrrcast.m")]) == HRRRCAST_MEMBERS
    for file, ending in ((MEMBER, ""), (SPREAD, "_spread")):
        kept = archive.sidecar(archive.root / locations.archive_path(file)).messages
        assert {message.variable for message in kept} == {f"{name}{ending}" for name in NAMES}
