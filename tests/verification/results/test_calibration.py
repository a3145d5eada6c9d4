"""Ensembles that are wrong in one way are said to be wrong in that way and no other; a right one is called right."""

from __future__ import annotations

import numpy as np
import pytest

from convcast.metrics.bootstrap import Bootstrap
from convcast.metrics.spatial import Scales
from convcast.metrics.sums import score_field
from convcast.variables import T2M
from convcast.verification.results.accumulator import Accumulator
from convcast.verification.results.calibration import diagnose
from convcast.verification.results.table import find, score_rows

DAYS, MEMBERS, SHAPE = 40, 12, (16, 16)


def verified(seed, *, scale=1.0, shift=0.0, confidence=0.99, days=DAYS):
    """Rows of an ensemble that is drawn like the truth, but for its spread and its mean."""
    generator = np.random.default_rng(seed)
    accumulator = Accumulator()
    for day in range(days):
        centre, width = generator.normal(290, 5, SHAPE), generator.uniform(0.3, 3, SHAPE)
        weather = generator.normal(0, 0.3, (MEMBERS + 1, 1, 1))  # the same all day: points are not independent
        drawn = centre + width * (weather + generator.normal(size=(MEMBERS + 1, *SHAPE)))
        truth, members = drawn[0], drawn[1:]
        members = centre + shift + scale * (members - centre)
        init = np.datetime64("2024-05-01T12", "h") + 24 * day
        statistics = score_field(members.astype("f4"), truth.astype("f4"), T2M, scales=Scales((), periodic=False))
        accumulator.add("convcast", "t2m", 1, init, statistics)
    bootstrap = Bootstrap(days, resamples=1000, seed=0, confidence=confidence)
    return list(score_rows(accumulator, bootstrap, Scales((), periodic=False), T2M, 1, ["convcast"]))


def said(rows):
    return str(diagnose(lambda score: find(rows, score=score, field="t2m", system="convcast")))


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_s_own_distribution_reads_calibrated(seed):
    rows = verified(seed)
    assert said(rows) == "calibrated"
    for score, right in (("bias", 0), ("spread_error_ratio", 1), ("spread_error_ratio_centred", 1), ("outliers", 1)):
        row = find(rows, score=score)
        assert row["low"] < right < row["high"], score


def test_members_like_the_truth_have_events_as_often_as_it():
    """One of the intervals of 99 % may miss."""
    rows = [row for seed in range(8) for row in verified(seed) if row["score"] == "frequency_bias"]
    held = [row["low"] <= 1 <= row["high"] for row in rows if row["low"] is not None]
    assert len(held) >= 8
    assert held.count(False) <= 1


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"shift": 1.0}, "biased high"),
        ({"shift": -1.0}, "biased low"),
        ({"scale": 0.6}, "over-confident"),
        ({"scale": 1.6}, "under-confident"),
        ({"scale": 0.6, "shift": 1.0}, "biased high, over-confident"),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_faults_of_calibration_are_named(how, words, seed):
    assert said(verified(seed, **how)) == words


def test_without_an_interval_nothing_is_called_calibrated():
    assert said(verified(0, days=1)) == "no interval"
