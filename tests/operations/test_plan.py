"""The next step of a cycle is a function of the inventory: tests need no process and no file."""

from dataclasses import replace

import numpy as np
import pytest

from convcast.dataset import HourStatus
from convcast.notation import HOUR
from convcast.operations.inventory import ForecastSummary, Inventory, ModelSummary, expected_hour
from convcast.operations.plan import CycleLimits, Step, due_cases, gaps, late_hours, next_step, unfinished

NOW = np.datetime64("2024-05-20T05", "h")
TRAINED = (np.datetime64("2024-05-01T00", "h"), np.datetime64("2024-05-15T00", "h"))
MODEL = ModelSummary(history=4, leads=(1, 3), trained=TRAINED)
LIMITS = CycleLimits(catch_up=6)
WHOLE = ForecastSummary(True, (1, 3), TRAINED, 50)


def back(count):
    return [NOW - k * HOUR for k in range(count)]


def holding(hours=(), *, archived=(), forecasts=(), scored=(), model=MODEL):
    return Inventory(
        expected=NOW,
        archived=frozenset(archived),
        hour_status=dict.fromkeys(hours, HourStatus.OK),
        forecasts=dict.fromkeys(forecasts, WHOLE),
        scored=frozenset(scored),
        model=model,
    )


def obedient(inventory, step, lost=()):
    """The workspace after a step that went well; hours `lost` are nowhere."""
    match step.stage:
        case "fetch":
            came = {h for h in np.arange(step.hours[0], step.hours[1] + HOUR) if h not in lost}
            return replace(inventory, archived=inventory.archived | came)
        case "preprocess":
            return replace(
                inventory, hour_status={**inventory.hour_status, **dict.fromkeys(inventory.archived, HourStatus.OK)}
            )
        case "sample":
            return replace(inventory, forecasts={**inventory.forecasts, step.hours[0]: WHOLE})
        case "verify":
            return replace(inventory, scored=inventory.scored | step.cases)
    return inventory


def whole_cycle(inventory, limits=LIMITS, *, lost=(), after=obedient, excluded=frozenset()):
    """All steps, and what is there at the end."""
    done = []
    while (step := next_step(inventory, limits, done, excluded)) is not None:
        done.append(step)
        inventory = after(inventory, step, lost)
        assert len(done) < 60, "a cycle ends"
    return done, inventory


def names(done):
    return [step.stage for step in done]


def everything(before):
    """Make the inventory that the cycle of an earlier hour left."""
    hours = [hour for hour in back(60) if hour <= before]
    inits = [init for init in hours if init > before - 12 * HOUR]
    scored = [(init, lead) for init in inits for lead in (1, 3) if init + lead * HOUR <= before]
    return holding(hours, archived=hours, forecasts=inits, scored=scored)


def test_an_ordinary_hour():
    done, after = whole_cycle(everything(NOW - HOUR))

    assert names(done) == ["fetch", "preprocess", "sample", "publish", "verify", "publish", "prune"]
    assert done[0].words[1:5] == ["--start", str(NOW), "--end", str(NOW)]
    assert done[2].words == ["sample", "--init", str(NOW)]
    assert done[4].cases == {(NOW - HOUR, 1), (NOW - 3 * HOUR, 3)}
    assert due_cases(after, LIMITS) == frozenset()


def test_the_same_hour_again_does_nothing():
    _, after = whole_cycle(everything(NOW - HOUR))

    assert names(whole_cycle(after)[0]) == ["publish", "prune"]


def test_after_an_outage_the_newest_forecast_comes_first_then_older_ones_newest_first():
    done, _ = whole_cycle(everything(NOW - 30 * HOUR))

    assert done[0].hours == (NOW - 3 * HOUR, NOW)
    assert names(done[:5]) == ["fetch", "preprocess", "sample", "publish", "fetch"]
    assert [step.hours[0] for step in done if step.stage == "sample"] == back(7)
    assert done[4].hours[0] == NOW - 9 * HOUR, "the history of the oldest forecast to be made up for, and no further"
    assert names(done)[-3:] == ["verify", "publish", "prune"]


def test_due_cases_are_scored_before_catching_up_and_again_after_it():
    missed = {NOW - 2 * HOUR, NOW - 3 * HOUR}
    before = everything(NOW - HOUR)
    forecasts = {init: forecast for init, forecast in before.forecasts.items() if init not in missed}
    scored = frozenset((init, lead) for init, lead in before.scored if init not in missed)

    done, _ = whole_cycle(replace(before, forecasts=forecasts, scored=scored))

    assert names(done) == [
        *("fetch", "preprocess", "sample", "publish", "verify"),
        *("sample", "sample", "verify", "publish", "prune"),
    ]
    assert done[-3].cases >= {(NOW - 2 * HOUR, 1), (NOW - 3 * HOUR, 3)}


def test_a_late_hour_is_asked_for_and_the_rest_goes_on():
    before = everything(NOW - HOUR)
    missed = NOW - 2 * HOUR
    before = replace(before, forecasts={i: f for i, f in before.forecasts.items() if i != missed})

    done, after = whole_cycle(before, lost={NOW})

    assert [step.hours for step in done if step.stage == "sample"] == [(missed,)]
    assert names(done).count("fetch") == 1
    assert late_hours(after, within=2) == (NOW,)
    assert gaps(after, LIMITS, within=2) == ()


def test_a_gap_costs_the_forecasts_that_need_it_and_no_others():
    lost = NOW - 5 * HOUR
    done, after = whole_cycle(everything(NOW - 30 * HOUR), lost={lost})

    assert [step.hours[0] for step in done if step.stage == "sample"] == [NOW, NOW - HOUR, NOW - 6 * HOUR]
    assert gaps(after, LIMITS, within=2) == (lost,)


def test_without_a_model_hours_are_collected():
    done, _ = whole_cycle(holding(model=None))

    assert names(done) == ["fetch", "preprocess", "fetch", "preprocess", "publish", "prune"]


def test_hours_that_the_model_learned_from_are_not_forecast():
    model = ModelSummary(4, (1,), (TRAINED[0], NOW - 2 * HOUR))
    done, _ = whole_cycle(holding(back(40), model=model))

    assert [step.hours[0] for step in done if step.stage == "sample"] == [NOW, NOW - HOUR]


def test_every_third_hour():
    done, _ = whole_cycle(holding(back(40)), CycleLimits(catch_up=6, every=3))

    assert [str(step.hours[0])[-2:] for step in done if step.stage == "sample"] == ["03", "00"]


@pytest.mark.parametrize("stage", ["fetch", "preprocess", "sample", "verify"])
def test_a_stage_that_does_nothing_is_not_repeated_for_ever(stage):
    def idle(inventory, step, lost):
        return inventory if step.stage == stage else obedient(inventory, step, lost)

    done, _ = whole_cycle(everything(NOW - 30 * HOUR), after=idle)

    tried = [step for step in done if step.stage == stage]
    assert len(set(tried)) == len(tried) or stage == "preprocess"
    assert names(done)[-1] == "prune"


@pytest.mark.parametrize("stage", ["fetch", "preprocess", "sample", "verify"])
def test_a_barred_stage_is_left_out(stage):
    done, _ = whole_cycle(everything(NOW - 30 * HOUR), excluded=frozenset({stage}))

    assert stage not in names(done)
    assert names(done)[-1] == "prune"


def test_scored_cases_and_those_without_analysis_or_ensemble_are_not_due():
    there = holding(back(3), forecasts=[NOW - HOUR, NOW], scored=[(NOW - HOUR, 1)])
    assert due_cases(there, LIMITS) == frozenset()

    there = replace(there, scored=frozenset())
    assert due_cases(there, LIMITS) == {(NOW - HOUR, 1)}
    one = {NOW - HOUR: replace(WHOLE, members=1)}
    assert due_cases(replace(there, forecasts=one), LIMITS) == frozenset()
    learned = {NOW - HOUR: replace(WHOLE, trained=(NOW - 9 * HOUR, NOW))}
    assert due_cases(replace(there, forecasts=learned), LIMITS) == frozenset()


def test_members_are_needed_until_they_are_scored_or_can_be_no_more():
    old, late_window = NOW - 10 * HOUR, NOW - 2 * HOUR
    half = ForecastSummary(False, (1, 3), TRAINED, 20)
    there = holding(back(30), forecasts=[old, late_window])
    assert unfinished(there, LIMITS) == {late_window}

    there = replace(there, scored=frozenset({(late_window, 1), (late_window, 3)}))
    assert unfinished(there, LIMITS) == frozenset()
    assert unfinished(replace(there, forecasts={old: half, late_window: half}), LIMITS) == {late_window}


def test_an_analysis_is_expected_an_hour_after_its_time():
    assert str(expected_hour(np.datetime64("2024-05-20T06:05:00"), 0)) == "2024-05-20T05"
    assert str(expected_hour(np.datetime64("2024-05-20T05:59:00"), 0)) == "2024-05-20T04"
    assert str(expected_hour(np.datetime64("2024-05-20T06:05:00"), 1)) == "2024-05-20T06"


def test_words_of_a_step_are_those_of_the_command_line():
    assert Step("verify").words == ["verify"]
    assert Step("fetch", (NOW - HOUR, NOW)).words[-2:] == ["--max-missing", "1"]


def test_missing_forcing_of_the_newest_hour_is_fetched_and_preprocessed_before_it_is_sampled():
    from convcast.archive import HrrrForecast

    forecast = HrrrForecast(NOW, 1)
    there = replace(everything(NOW - HOUR), archived=frozenset(back(60)), unforced=frozenset([NOW]))
    there = replace(there, hour_status={**there.hour_status, NOW: HourStatus.OK})

    def after(inventory, step, lost):
        if step.stage == "fetch":
            return replace(inventory, unforced=frozenset(), unprocessed_forecasts=frozenset([forecast]))
        if step.stage == "preprocess":
            return replace(inventory, unprocessed_forecasts=frozenset())
        return obedient(inventory, step, lost)

    done, _ = whole_cycle(there, after=after)
    assert names(done)[:3] == ["fetch", "preprocess", "sample"]
    assert done[0].hours == (NOW, NOW)
    assert done[2].hours == (NOW,)


def test_forcing_that_does_not_come_is_asked_for_once_and_does_not_stop_the_forecast():
    there = replace(everything(NOW - HOUR), archived=frozenset(back(60)), unforced=frozenset([NOW]))
    there = replace(there, hour_status={**there.hour_status, NOW: HourStatus.OK})
    done, inventory = whole_cycle(there)
    assert names(done).count("fetch") == 1
    assert inventory.complete(NOW)


@pytest.mark.parametrize(
    ("age", "cases", "first", "wanted"),
    [
        (None, 12, 2, True),
        (None, 11, 2, False),
        (24, 12, 2, True),
        (23, 12, 2, False),
        (30, 0, 2, False),
        (24, 12, 24, True),
        (24, 12, 25, False),
    ],
)
@pytest.mark.parametrize("how", ["scored", "in raw/"])
def test_calibration_is_learnt_once_a_day_from_enough_forecasts_one_of_them_new(age, cases, first, wanted, how):
    """The newest forecast began `first` hours ago; of those of which only products are kept, raw/ has the members."""
    calibrated = None if age is None else NOW - age * HOUR
    inits = frozenset(NOW - (k + first) * HOUR for k in range(cases))
    if how == "scored":
        there = holding(scored={(init, 1) for init in inits})
    else:
        there = replace(holding(back(60), model=replace(MODEL, leads=(1,))), raw=inits)
    assert replace(there, calibrated=calibrated).to_calibrate == wanted
    assert not replace(there, calibrated=calibrated, other_models=inits).to_calibrate


def test_a_forecast_in_raw_without_an_analysis_teaches_nothing():
    raw, model = frozenset(NOW - k * HOUR for k in range(1, 13)), replace(MODEL, leads=(1,))
    assert replace(holding(back(60), model=model), raw=raw).to_calibrate
    assert not replace(holding(back(2), model=model), raw=raw).to_calibrate
    assert not replace(holding(back(60), model=model), raw=raw - {NOW - HOUR} | {NOW}).to_calibrate


@pytest.mark.parametrize("calibrate", [True, False])
def test_calibration_is_learnt_once_in_a_cycle_and_only_if_it_is_used(calibrate):
    scored = {(NOW - (k + 2) * HOUR, 1) for k in range(12)}
    inventory = holding(back(10), forecasts=back(7), scored=scored)
    done, _ = whole_cycle(inventory, replace(LIMITS, calibrate=calibrate))
    stages = [step.stage for step in done]
    assert stages.count("calibrate") == calibrate
    assert Step("calibrate", (NOW,)).words == ["calibrate", "--until", "2024-05-20T05"]
    assert all(step.hours == (NOW,) for step in done if step.stage == "calibrate")
    done, _ = whole_cycle(inventory, replace(LIMITS, calibrate=calibrate), excluded=frozenset({"calibrate"}))
    assert "calibrate" not in [step.stage for step in done]


def test_a_rehearsal_of_an_earlier_hour_sees_nothing_later():
    later = NOW + 5 * HOUR
    there = everything(later)
    there = replace(there, forecasts={**there.forecasts, later: WHOLE}, scored=frozenset())

    assert there.newest == NOW
    assert max(init + lead * HOUR for init, lead in due_cases(there, LIMITS)) == NOW
