"""The cycle over stages that do as they are told, or fail: exit code, journal, hooks, deadline, disk."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from convcast.dataset import HourStatus
from convcast.errors import DamagedFileError, DiskFullError
from convcast.grid import Grid
from convcast.notation import HOUR
from convcast.operations import cycle as module
from convcast.operations.cycle import Cycle
from convcast.operations.history import ScoreHistory
from convcast.operations.inventory import ForecastSummary, Inventory, ModelSummary
from convcast.operations.stages import ProcessResult
from convcast.settings.load import load_settings
from convcast.workspace import create_workspace

CLOCK = np.datetime64("2024-05-20T06:05", "s")
NOW = np.datetime64("2024-05-20T05", "h")
GRID = Grid(6, 8, 300, 800)
"""Grid of the ensembles that `ensemble_of` makes."""
MODEL = ModelSummary(4, (1,), (NOW - 900 * HOUR, NOW - 800 * HOUR))


class World:
    """A surveyor of a workspace that exists in thought, and the stages that change it."""

    def __init__(self, place, **settings):
        operations = {"least_free": 0, "max_catch_up": 2} | settings
        self.workspace, self.name = place, "phase1"
        self.settings = load_settings(place.settings_file, {"operations": operations}, preset="phase1")
        self.history = ScoreHistory(place.root / "history")
        hours = [NOW - age * HOUR for age in range(1, 12)]
        self.there = Inventory(NOW, hour_status=dict.fromkeys(hours, HourStatus.OK), model=MODEL)
        self.there = replace(
            self.there, forecasts={hour: ForecastSummary(True, (1,), members=50) for hour in hours[:4]}
        )
        self.there = replace(self.there, scored=frozenset((hour, 1) for hour in hours[1:]))
        self.ran, self.says, self.late = [], {}, set()

    def read(self, expected, *, since):
        assert expected == NOW
        return self.there

    def newest(self, *, before):
        return None

    def run(self, words, *, seconds, grace):
        self.ran.append(words)
        stage = words[0]
        if stage in self.says:
            return self.says[stage](words) if callable(self.says[stage]) else self.says[stage]
        result = {}
        if stage == "fetch":
            start, end = (np.datetime64(words[words.index(flag) + 1], "h") for flag in ("--start", "--end"))
            hours = np.arange(start, end + HOUR)
            result["outcomes"] = [
                {"valid": str(h), "status": "late" if h in self.late else "ok", "reason": ""} for h in hours
            ]
            came = {hour for hour in hours if hour not in self.late}
            self.there = replace(self.there, archived=self.there.archived | came)
            if len(came) == 0:
                return ProcessResult(4, 0.1, result, "not published yet")
        if stage == "preprocess":
            status = {**self.there.hour_status, **dict.fromkeys(self.there.archived, HourStatus.OK)}
            self.there = replace(self.there, hour_status=status)
        if stage == "sample":
            init = np.datetime64(words[words.index("--init") + 1], "h")
            self.there = replace(
                self.there, forecasts={**self.there.forecasts, init: ForecastSummary(True, (1,), members=50)}
            )
        return ProcessResult(0, 0.5, result, "")


@pytest.fixture
def world(tmp_path, monkeypatch):
    def make(**settings):
        made = World(create_workspace(tmp_path / "w"), **settings)
        monkeypatch.setattr(module.stages, "run", made.run)
        monkeypatch.setattr(Cycle, "_keep_scores", lambda self: made_scores(made))
        return made

    return make


def made_scores(world):
    world.there = replace(world.there, scored=world.there.scored | {(NOW - HOUR, 1)})
    return "1 cases"


def run(world, **words):
    cycle = Cycle(world, CLOCK, **words)
    return cycle, list(cycle)


def journal(world):
    return [json.loads(line) for line in (world.workspace.root / "journal.jsonl").read_text().splitlines()]


def metrics(world):
    text = world.workspace.metrics.read_text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name.removeprefix("convcast_"), *sample.labels.values()): sample.value for sample in samples}


def hook(tmp_path):
    """A command that keeps what it is told, and where."""
    kept = tmp_path / "told.json"
    return [sys.executable, "-S", "-c", f"import sys; open({str(kept)!r}, 'w').write(sys.stdin.read())"], kept


def test_a_cycle_that_goes_well(world, tmp_path):
    command, told = hook(tmp_path)
    there = world(on_failure=command)
    cycle, done = run(there)

    assert [(one.stage, one.code) for one in done] == [
        (stage, 0) for stage in ("fetch", "preprocess", "sample", "publish", "verify", "publish", "prune")
    ]
    assert cycle.code == 0
    (line,) = journal(there)
    assert (line["verb"], line["code"], line["outcome"], line["newest"]) == ("cycle", 0, "ok", str(NOW))
    assert [stage["stage"] for stage in line["stages"]] == [one.stage for one in done]
    assert all(stage["seconds"] >= 0 for stage in line["stages"])
    assert json.loads(there.workspace.latest.read_text())["init"] == str(NOW)
    assert not told.exists(), "nobody is woken for that"


def test_metrics_are_prometheus_s_own_format(world):
    there = world()
    begun = time.time()
    run(there)
    said = metrics(there)

    assert said["forecast_init_timestamp_seconds",] == NOW.astype("datetime64[s]").astype(int)
    assert (said["cycle_exit_code",], said["late_hours",], said["gap_hours",]) == (0, 0, 0)
    assert said["stage_duration_seconds", "sample"] == 0.5
    assert begun - 1 <= said["cycle_success_timestamp_seconds",] <= time.time() + 1


def test_verbs_get_the_options_of_the_cycle(world):
    there = world(leads=[1, 3])
    run(there, words=["--set", "a.b=1"], fetch_words=["--source", "aws"], sample_words=["--model", "m"])
    fetch, preprocess, sample, verify = there.ran

    assert fetch[-8:] == ["--source", "aws", "--set", "a.b=1", "--json", "-q", "-w", str(there.workspace.root)]
    assert preprocess[:3] == ["preprocess", "--set", "a.b=1"]
    assert sample[:7] == ["sample", "--init", str(NOW), "--model", "m", "--leads", "1,3"]
    assert verify[:3] == ["verify", "--name", "operational"]
    assert "--init" not in verify


def comparing(world, *against):
    there = world()
    verification = there.settings.verification.model_copy(update={"against": against, "lagged_ages": (1, 2)})
    there.settings = there.settings.model_copy(update={"verification": verification})
    return there


def test_references_are_fetched_before_verification(world):
    there = comparing(world, "persistence", "hrrr", "time-lagged", "hrrrcast", "refs")
    run(there, words=["--set", "a.b=1"], fetch_words=["--source", "aws"])
    *_, refs, lagged, cast, verify = (words for words in there.ran if words[0] in ("fetch", "verify"))

    for words, what, leads in ((refs, "refs", "5"), (lagged, "time-lagged", "1,2,3"), (cast, "hrrrcast", "1")):
        asked = [
            "fetch",
            "--what",
            what,
            "--leads",
            leads,
            "--start",
            str(NOW),
            "--end",
            str(NOW),
            "--max-missing",
            "1",
        ]
        assert words == [*asked, "--source", "aws", "--set", "a.b=1", "--json", "-q", "-w", str(there.workspace.root)]
    assert verify[0] == "verify"


def test_scans_are_fetched_where_they_are_the_truth(world):
    there = comparing(world, "persistence")
    truths = there.settings.verification.model_copy(update={"truths": ("analyses", "mrms")})
    there.settings = there.settings.model_copy(update={"verification": truths})
    run(there)
    scans, verify = there.ran[-2:]
    assert scans[:7] == ["fetch", "--what", "mrms", "--start", str(NOW), "--end", str(NOW)]
    assert verify[0] == "verify"


def test_without_such_baselines_nothing_is_fetched_for_verification(world):
    there = comparing(world, "persistence", "climatology")
    run(there)
    assert [words[0] for words in there.ran] == ["fetch", "preprocess", "sample", "verify"]


@pytest.mark.parametrize(("status", "code", "said"), [("late", 0, "wait for hrrrcast"), ("gap", 3, "")])
def test_cases_wait_for_what_is_not_published_yet_and_for_nothing_else(world, status, code, said):
    there = comparing(world, "hrrrcast")
    fetch = World.run

    def answer(words):
        if "--what" not in words:
            there.says.pop("fetch")
            try:
                return fetch(there, words, seconds=1, grace=1)
            finally:
                there.says["fetch"] = answer
        outcome = {"valid": str(NOW), "status": status, "reason": "not there", "file": ""}
        return ProcessResult(0, 0.1, {"outcomes": [outcome]}, "")

    there.says = {"fetch": answer, "verify": ProcessResult(3, 0.1, {}, "no case is left")}
    cycle, done = run(there)
    verified = next(one for one in done if one.stage == "verify")

    assert (verified.code, cycle.code) == (code, code)
    assert said in verified.about
    assert any("hrrrcast to verify with" in note for note in journal(there)[-1]["notes"]) == (status == "gap")


def test_a_rehearsal_verifies_nothing_later_than_its_hour(world):
    there = world()
    run(there, rehearsal=True)
    verify = there.ran[-1]

    first, last, step = verify[verify.index("--init") + 1].split("/")
    assert np.datetime64(first, "h") < NOW - HOUR
    assert (np.datetime64(last, "h"), step) == (NOW, "1h")


def test_late_data_is_4_and_no_noise(world, tmp_path):
    command, told = hook(tmp_path)
    there = world(on_failure=command)
    there.late = {NOW}
    cycle, done = run(there)

    assert (cycle.code, cycle.entry["outcome"], cycle.entry["late"]) == (4, "late", [str(NOW)])
    assert (done[0].stage, done[0].code) == ("fetch", 4)
    assert "sample" not in {one.stage for one in done}
    assert not told.exists()
    assert metrics(there)["late_hours",] == 1


def test_an_hour_that_could_not_be_had_is_3_and_is_told(world, tmp_path):
    command, told = hook(tmp_path)
    there = world(on_failure=command)
    outcomes = [{"valid": str(NOW), "status": "transient", "reason": "aws: no answer"}]
    there.says["fetch"] = ProcessResult(0, 0.1, {"outcomes": outcomes}, "")
    cycle, done = run(there)

    assert cycle.code == 3
    assert "no answer" in done[0].error
    document = json.loads(told.read_text())
    assert document["code"] == 3
    assert document["workspace"] == str(there.workspace.root)
    assert "no answer" in document["stages"][0]["error"]


def test_without_a_network_fetching_is_tried_once(world):
    there = world()
    there.there = replace(
        there.there, hour_status={hour: HourStatus.OK for hour in there.there.hour_status if hour < NOW - 3 * HOUR}
    )
    there.says["fetch"] = ProcessResult(3, 0.1, {}, "convcast: nothing can be fetched from aws")
    cycle, done = run(there)

    assert [one.stage for one in done].count("fetch") == 1
    assert cycle.code == 3


def test_a_known_gap_is_no_failure_every_hour(world):
    there = world()
    lost = NOW - 3 * HOUR
    there.there = replace(there.there, hour_status={**there.there.hour_status, lost: HourStatus.GAP})
    gap = [{"valid": str(lost), "status": "gap", "reason": "not there"}]
    there.says["fetch"] = ProcessResult(0, 0.1, {"outcomes": gap}, "")
    there.there = replace(there.there, expected=NOW, archived=frozenset({NOW}))
    cycle, _ = run(there)

    assert cycle.code == 0
    assert cycle.entry["gaps"] == [str(lost)]


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (ProcessResult(-9, 0.1, {}, ""), 1),
        (ProcessResult(1, 0.1, {}, "Traceback"), 1),
        (ProcessResult(2, 0.1, {}, "convcast: no such setting"), 2),
        (ProcessResult(3, 0.1, {}, "convcast: missing"), 3),
        (ProcessResult(5, 0.1, {}, "convcast: another run is sampling"), 5),
        (ProcessResult(6, 0.1, {}, "convcast: damaged"), 6),
        (ProcessResult(130, 0.1, {}, "convcast: interrupted"), 3),
    ],
)
def test_a_stage_that_fails_is_contained_and_named(world, ended, code):
    there = world()
    there.there = replace(there.there, forecasts={})
    there.says["sample"] = ended
    cycle, done = run(there)

    failed = [one for one in done if one.stage == "sample"]
    assert cycle.code == code
    assert ended.stderr in failed[0].error
    assert "signal 9" in failed[0].error or ended.code != -9
    assert done[-1].stage == "prune", "the others go on"
    assert len(failed) == (3 if code == 3 else 1), "what would fail again is not tried again"
    assert journal(there)[0]["succeeded"] is None


def test_the_last_success_is_remembered(world):
    there = world()
    run(there)
    success = journal(there)[0]["succeeded"]
    there.says["fetch"] = ProcessResult(1, 0.1, {}, "bug")
    there.there = replace(there.there, archived=frozenset(), hour_status={})
    cycle, _ = run(there)

    assert cycle.code == 1
    assert journal(there)[1]["succeeded"] == success
    assert metrics(there)["cycle_success_timestamp_seconds",] == pytest.approx(success)


def test_the_deadline_stops_the_catching_up_and_that_is_no_failure(world, monkeypatch):
    there = world()
    there.there = replace(there.there, forecasts={})
    there.says["sample"] = lambda words: slow_after_first(there, words)
    cycle, done = run(there)

    assert [one.outcome for one in done if one.stage == "sample"] == ["ok", "deadline"]
    assert (cycle.code, cycle.entry["deadline"]) == (0, True)
    assert done[-1].stage == "prune"


def slow_after_first(world, words):
    if words[2] == str(NOW):
        del world.says["sample"]
        ended = world.run(words, seconds=1, grace=1)
        world.says["sample"] = ProcessResult(-15, 0.1, {}, "", stopped=True)
        return ended
    return world.says["sample"]


def test_the_deadline_before_the_newest_forecast_is_3(world):
    there = world()
    there.says["sample"] = ProcessResult(-15, 0.1, {}, "", stopped=True)
    cycle, _ = run(there)

    assert cycle.code == 3
    assert str(NOW) in cycle.entry["notes"][0]


def test_after_the_deadline_nothing_begins_but_publishing_and_pruning(world):
    there = world(deadline=1e-9)
    _, done = run(there)

    assert there.ran == []
    assert {one.outcome for one in done if one.stage not in ("publish", "prune")} == {"deadline"}
    assert {"publish", "prune"} <= {one.stage for one in done}


def test_a_full_disk_stops_it_before_it_begins_with_the_figure(world, monkeypatch, tmp_path):
    command, told = hook(tmp_path)
    there = world(least_free=3, on_failure=command)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2.4e9))

    with pytest.raises(DiskFullError, match=r"2\.40 GB are free .* 3 GB"):
        run(there)
    assert there.ran == []
    (line,) = journal(there)
    assert (line["code"], line["stages"]) == (3, [])
    assert "2.40 GB" in line["notes"][0]
    assert json.loads(told.read_text())["code"] == 3
    assert metrics(there)["cycle_exit_code",] == 3


def test_pruning_may_make_the_room(world, monkeypatch):
    there = world(least_free=3)
    free = iter([2.4e9])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free, 4e9)))
    cycle, _ = run(there)
    assert cycle.code == 0


def test_an_error_that_ends_a_cycle_early_is_in_the_journal(world, monkeypatch):
    there = world()
    damaged = DamagedFileError("dataset.zarr is not a convcast dataset")
    monkeypatch.setattr(there, "read", lambda *_, **__: (_ for _ in ()).throw(damaged))

    with pytest.raises(DamagedFileError):
        run(there)
    (line,) = journal(there)
    assert (line["code"], line["outcome"], line["notes"]) == (6, "damaged", [str(damaged)])


def test_a_new_forecast_is_told_once(world, tmp_path):
    command, told = hook(tmp_path)
    there = world(on_publish=command)
    run(there)

    assert json.loads(told.read_text())["init"] == str(NOW)
    told.unlink()
    run(there)
    assert not told.exists()


def test_a_published_forecast_has_its_page_and_its_warnings_before_it_is_told_of(world, tmp_path, ensemble_of):
    command, told = hook(tmp_path)
    latitude, longitude = (float(degrees[3, 4]) for degrees in GRID.latitude_longitude())
    point = {"latitude": latitude, "longitude": longitude, "field": "t2m", "threshold": 280, "probability": 90}
    page, copied = tmp_path / "w" / "latest" / "index.html", tmp_path / "copy"
    copy = [sys.executable, "-S", "-c", f"import shutil; shutil.copy({str(page)!r}, {str(copied)!r})"]
    there = world(on_threshold={"points": [point], "command": command}, on_publish=copy)
    ensemble_of(there.workspace.forecast(NOW), NOW, leads=(1,))
    cycle, _ = run(there)

    assert (cycle.code, cycle.entry["notes"]) == (0, [])
    document = json.loads(told.read_text())
    assert (document["event"], document["probability"], document["valid"]) == ("threshold", 100, str(NOW + HOUR))
    assert "4 members" in copied.read_text()
    assert len(list(there.workspace.page.glob("*_refc_f01_*.png"))) == 5
    told.unlink()
    run(there)
    assert not told.exists(), "once"


def test_a_page_that_cannot_be_made_keeps_nobody_from_being_told(world, tmp_path):
    command, told = hook(tmp_path)
    there = world(on_publish=command)
    there.workspace.forecast(NOW).mkdir(parents=True)
    cycle, done = run(there)

    assert cycle.code == 6
    assert str(there.workspace.forecast(NOW)) in next(one.error for one in done if one.stage == "publish")
    assert json.loads(told.read_text())["init"] == str(NOW)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/nowhere/at-all"], "cannot be run"),
        ([sys.executable, "-S", "-c", "import sys; sys.exit('no mail')"], "no mail"),
        ([sys.executable, "-S", "-c", "import time; time.sleep(60)"], "took longer than 0.5 s"),
    ],
)
def test_a_command_that_fails_is_noted_and_fails_nothing(world, command, words):
    there = world(on_publish=command, hook_seconds=0.5)
    cycle, _ = run(there)

    assert cycle.code == 0
    assert words in cycle.entry["notes"][0]


def test_a_bug_in_one_of_its_own_stages_reaches_the_journal(world, monkeypatch):
    there = world()
    monkeypatch.setattr(module, "list_stored_files", lambda *_, **__: 1 / 0)
    cycle, done = run(there)

    assert cycle.code == 1
    assert "ZeroDivisionError" in done[-1].error
    assert journal(there)[0]["code"] == 1


def test_interrupted_it_says_so_in_the_journal(world):
    there = world()

    def interrupt(words):
        raise KeyboardInterrupt

    there.says["sample"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(there)
    (line,) = journal(there)
    assert (line["outcome"], line["notes"]) == ("interrupted", ["interrupted"])


def test_without_a_model_it_collects_and_says_so(world):
    there = world()
    there.there = replace(there.there, model=None, forecasts={}, scored=frozenset())
    cycle, done = run(there)

    assert cycle.code == 0
    assert "convcast train" in cycle.entry["notes"][0]
    assert "sample" not in {one.stage for one in done}


def test_a_place_that_is_taken_is_named_and_keeps_no_other_forecast_from_being_drawn(world):
    one = world()
    taken = one.workspace.forecast(NOW)
    one.there = replace(one.there, ignored_files={taken: "is a link"}, blocked=frozenset({NOW}))
    one.there = replace(one.there, forecasts={})

    cycle, _ = run(one)

    drawn = [words[words.index("--init") + 1] for words in one.ran if words[0] == "sample"]
    assert str(NOW) not in drawn
    assert str(NOW - HOUR) in drawn
    assert f"{taken} is a link and is left alone" in cycle.entry["notes"]


def test_scores_of_other_forecasts_are_kept_where_one_is_damaged(world):
    one = world()
    one.says["verify"] = ProcessResult(6, 0.5, {"report": "report.html"}, "f.zarr has lost values")

    cycle, _ = run(one)

    assert cycle.code == 6
    assert (NOW - HOUR, 1) in one.there.scored
    assert [stage["error"] for stage in cycle.entry["stages"] if stage["code"] == 6] == ["f.zarr has lost values"]


def test_a_damaged_model_is_6_and_the_rest_is_done(world):
    one = world()
    described = one.workspace.model("phase1") / "model.json"
    one.there = replace(one.there, model=None, ignored_files={described: "does not describe a convcast model"})

    cycle, done = run(one)

    assert cycle.code == 6
    assert {"fetch", "preprocess", "prune"} <= {stage.stage for stage in done}
    assert f"{described} does not describe a convcast model and is left alone" in cycle.entry["notes"]


def test_late_forcing_makes_no_analysis_late(world):
    there = world()

    def fetch(words):
        there.there = replace(there.there, archived=there.there.archived | {NOW})
        outcomes = [
            {"valid": str(NOW), "status": "ok", "reason": "", "file": "hrrr.20240520/conus/hrrr.t05z.wrfsfcf00.grib2"},
            {
                "valid": str(NOW),
                "status": "late",
                "reason": "",
                "file": "hrrr.20240520/conus/hrrr.t04z.wrfsfcf01.grib2",
            },
        ]
        return ProcessResult(0, 0.1, {"outcomes": outcomes}, "")

    there.says["fetch"] = fetch
    cycle, done = run(there)
    assert (cycle.code, done[0].code) == (0, 0)
    assert "1 late" in done[0].about


def test_the_journal_says_which_forcing_was_taken(world):
    there = world()
    note = "the dataset lacks HRRR's forecast of 2024-05-20T05 + 1 h: 2024-05-20T04 + 2 h forces 2024-05-20T05 + 1 h"

    def sample(words):
        init = np.datetime64(words[words.index("--init") + 1], "h")
        there.there = replace(
            there.there, forecasts={**there.there.forecasts, init: ForecastSummary(True, (1,), members=50)}
        )
        return ProcessResult(0, 0.1, {"notes": [note]}, "")

    there.says["sample"] = sample
    cycle, _ = run(there)
    assert note in cycle.entry["notes"]
    assert cycle.code == 0
