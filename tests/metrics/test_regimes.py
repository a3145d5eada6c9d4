from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from convcast.metrics.regimes import REGIMES, UNKNOWN
from convcast.metrics.sums import POINT_SUMS, score_field
from convcast.variables import CAPE, REFC, T2M
from convcast.verification.data.gridded_files.cf import UnreadableError
from convcast.verification.data.gridded_files.points import Points
from convcast.verification.data.truth import find_regimes

INIT = np.datetime64("2024-05-06T21", "h")
SHAPE = (60, 50)


@dataclass
class Analysis:
    """A truth of one hour."""

    fields: dict
    hours: np.ndarray = field(default_factory=lambda: np.array([INIT]))

    @property
    def variables(self):
        return tuple(self.fields)

    @property
    def points(self):
        return Points(SHAPE, None, None, None, "m", None)

    def read(self, variable, hour):
        return self.fields[variable]


@pytest.fixture
def fields():
    """An echo in one corner; unstable air in the western half."""
    refc, cape = np.full(SHAPE, -10, np.float32), np.zeros(SHAPE, np.float32)
    refc[2, 3] = 20
    cape[:, :25] = 1000
    return {REFC: refc, CAPE: cape}


def test_every_point_is_in_the_regime_that_it_began_in(fields):
    regimes = find_regimes(Analysis(fields), INIT)
    y, x = np.indices(SHAPE)
    near = (y - 2) ** 2 + (x - 3) ** 2 <= 13**2
    np.testing.assert_array_equal(regimes == REGIMES.index("echo"), near)
    np.testing.assert_array_equal(regimes == REGIMES.index("unstable"), (x < 25) & ~near)
    np.testing.assert_array_equal(regimes == REGIMES.index("quiet"), (x >= 25) & ~near)


def test_the_regime_of_missing_points_is_not_known(fields):
    fields[REFC][:], fields[CAPE][:] = np.nan, np.nan
    assert set(np.unique(find_regimes(Analysis(fields), INIT))) == {UNKNOWN}


def test_there_is_none_without_fields_or_the_hour_or_where_it_cannot_be_read(fields):
    assert find_regimes(Analysis({T2M: fields[CAPE]}), INIT) is None
    assert find_regimes(Analysis(fields), INIT + 1) is None

    class Damaged(Analysis):
        def read(self, variable, hour):
            raise UnreadableError("damaged")

    assert find_regimes(Damaged(fields), INIT) is None


@pytest.mark.parametrize("chunk", [7, 100_000])
def test_sums_of_regimes_are_those_of_their_points(chunk):
    generator = np.random.default_rng(0)
    forecasts = generator.normal(size=(5, 20, 30)).astype("f4")
    truth = generator.normal(size=(20, 30)).astype("f4")
    truth[3, 4] = np.nan
    regimes = generator.integers(-1, 3, (20, 30)).astype(np.int8)
    found = score_field(forecasts, truth, T2M, regimes=regimes, chunk=chunk)
    for regime in range(3):
        alone = np.where(regimes == regime, truth, np.nan)
        expected = score_field(forecasts, alone, T2M).sums
        for name in POINT_SUMS:
            np.testing.assert_allclose(found.regimes[name][regime], expected[name], rtol=1e-12)
    assert found.regimes["points"].sum() < found.sums["points"]
    assert {sums.shape for sums in found.regimes.values()} == {(3,)}
