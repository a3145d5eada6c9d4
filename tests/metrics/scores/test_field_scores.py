from __future__ import annotations

import numpy as np
import pytest

from convcast.metrics import formulas
from convcast.metrics.neighbourhood import RADIUS
from convcast.metrics.scores.neighbourhood_maxima import STEP
from convcast.metrics.scores.spectra import BANDS, spectrum
from convcast.metrics.spatial import Scales
from convcast.metrics.sums import score_field
from convcast.variables import REFC, T2M

SHAPE = (40, 44)


def whole_fields(forecasts, observations, variable, scales):
    """The sums of scores of whole fields of one case."""
    return score_field(forecasts, observations, variable, scales=scales).whole_fields


def storms(seed, members=6, shape=SHAPE):
    """Blobs that lie elsewhere in each member."""
    generator = np.random.default_rng(seed)
    y, x = np.indices(shape)
    fields = []
    for _ in range(members + 1):
        field = np.full(shape, -10.0)
        for _ in range(3):
            cy, cx = generator.uniform(0, shape[0]), generator.uniform(0, shape[1])
            field = np.maximum(field, 60 - 0.8 * ((y - cy) ** 2 + (x - cx) ** 2))
        fields.append(field)
    return np.array(fields[:-1], np.float32), np.array(fields[-1], np.float32)


def by_hand(forecasts, truth, threshold, width, periodic):
    """(count, N², O², N O), neighbourhood by neighbourhood."""
    reach = width // 2
    total = np.zeros(4)
    ny, nx = truth.shape
    for y in range(ny):
        for x in range(nx):
            rows, columns = np.arange(y - reach, y + reach + 1), np.arange(x - reach, x + reach + 1)
            if periodic:
                rows, columns = rows % ny, columns % nx
            elif rows.min() < 0 or rows.max() >= ny or columns.min() < 0 or columns.max() >= nx:
                continue
            box = np.ix_(rows, columns)
            if np.isnan(truth[box]).any() or any(np.isnan(member[box]).any() for member in forecasts):
                continue
            n = np.mean([member[box] >= threshold for member in forecasts])
            o = (truth[box] >= threshold).mean()
            total += 1, n * n, o * o, n * o
    return total


def holes(present):
    present[5, 7] = present[18, 20] = False


def rim(present):
    present[:] = False
    present[3:-3, 4:-2] = True


@pytest.mark.parametrize("missing", [holes, rim, lambda present: None, lambda present: present.fill(False)])
@pytest.mark.parametrize("periodic", [False, True])
def test_fractions_are_those_counted_by_hand(periodic, missing):
    forecasts, truth = storms(0, shape=(24, 28))
    present = np.ones(truth.shape, bool)
    missing(present)
    truth[~present] = np.nan
    scales = Scales((1, 3, 9), periodic)
    found = whole_fields(forecasts, truth, REFC, scales)
    for number, threshold in enumerate(REFC.thresholds):
        for at, width in enumerate(scales.widths):
            expected = by_hand(forecasts, truth, threshold, width, periodic)
            np.testing.assert_allclose(found["fractions"][number, at], expected, atol=1e-9)


def test_fss_of_the_truth_is_1_and_of_what_never_meets_it_0():
    truth = np.full(SHAPE, -10, np.float32)
    truth[10:14, 10:14] = 45
    far = np.roll(truth, 20, axis=1)
    scales = Scales((1, 9, 21), periodic=True)
    same, apart = (whole_fields(np.stack([f, f]), truth, REFC, scales)["fractions"] for f in (truth, far))
    np.testing.assert_allclose(formulas.fractions_skill_score(same)[1], 1)
    skill = formulas.fractions_skill_score(apart)[1]
    assert skill[0] == skill[1] == 0 < skill[2]  # found again once neighbourhoods reach it
    assert np.isnan(formulas.fractions_skill_score(same)[3]).all()  # no echo of 50 dBZ, in neither


@pytest.mark.parametrize("periodic", [False, True])
def test_near_events_are_those_counted_by_hand(periodic):
    forecasts, truth = storms(1, members=3)
    found = whole_fields(forecasts, truth, REFC, Scales((), periodic))["near"][2]
    expected = np.zeros((4, 2), int)
    ny, nx = SHAPE
    dy, dx = (np.abs(np.subtract.outer(np.arange(n), np.arange(n))) for n in SHAPE)
    if periodic:
        dy, dx = np.minimum(dy, ny - dy), np.minimum(dx, nx - dx)

    def near(field, y, x):
        return ((field >= 40) & (dy[y][:, None] ** 2 + dx[x] ** 2 <= RADIUS**2)).any()

    for y in range(0, ny, STEP):
        for x in range(0, nx, STEP):
            if periodic or (RADIUS <= y < ny - RADIUS and RADIUS <= x < nx - RADIUS):
                expected[sum(near(member, y, x) for member in forecasts), int(near(truth, y, x))] += 1
    np.testing.assert_array_equal(found, expected)


def test_a_point_and_its_neighbourhood_are_different_events():
    forecasts, truth = storms(2)
    found = whole_fields(forecasts, truth, REFC, Scales((1,), periodic=True))
    assert found["near"][1, :, 1].sum() * STEP**2 > 2 * (truth >= 30).sum()


def test_the_energy_score_is_that_of_the_definition():
    forecasts, truth = storms(3, members=4)
    truth[3, 3] = np.nan
    x, y = forecasts.reshape(4, -1).astype(float), truth.reshape(-1).astype(float)
    x, y = x[:, np.isfinite(y)], y[np.isfinite(y)]
    distance = np.mean([np.linalg.norm(each - y) for each in x])
    pairs = sum(np.linalg.norm(a - b) for a in x for b in x)
    expected = np.array([1, *((distance - pairs / (2 * n)) / np.sqrt(y.size) for n in (4 * 3, 4 * 4))])
    found = whole_fields(forecasts, truth, REFC, Scales((), periodic=False))["energy"]
    np.testing.assert_allclose(found, [1, expected[1], expected[2]], rtol=1e-5)


def test_the_energy_of_one_member_is_its_root_mean_square_error():
    forecasts, truth = storms(4, members=1)
    _, fair, ensemble = whole_fields(forecasts, truth, REFC, Scales((), periodic=False))["energy"]
    assert fair == ensemble == pytest.approx(np.sqrt(((forecasts[0] - truth) ** 2).mean()), rel=1e-5)


@pytest.mark.parametrize("length", [4, 10, 20])
def test_a_wave_is_in_the_band_of_its_length(length):
    wave = np.sin(2 * np.pi * np.arange(80) / length) + np.zeros((80, 1))
    found, _ = spectrum(wave.astype(np.float32), periodic=True)
    (at,) = np.flatnonzero(found > 1e-3 * found.max())
    assert BANDS[at] <= length < BANDS[at + 1]
    assert found.sum() == pytest.approx(80 * 80 / 2, rel=1e-4)  # half a unit of variance at every point


def test_edges_do_not_pass_for_short_waves():
    """A slope across the domain, of which a plain transform sees the jump from its end to its beginning."""
    slope = np.add.outer(np.zeros(90), np.arange(90.0)).astype(np.float32)
    found, _ = spectrum(slope, periodic=False)
    short = BANDS[:-1] < 8
    assert found[short].sum() < 1e-3 * found.sum()


def test_spectra_twice_as_strong_are_three_decibels_apart():
    _, truth = storms(5)
    scales = Scales((), periodic=True)
    same = whole_fields(np.stack([truth] * 3), truth, T2M, scales)["power"]
    assert formulas.log_spectral_distance(same) == pytest.approx(0, abs=1e-9)
    louder = (truth - truth.mean()) * np.float32(np.sqrt(2))
    found = formulas.log_spectral_distance(whole_fields(louder[None], truth, T2M, scales)["power"])
    assert found == pytest.approx(10 * np.log10(2), abs=0.05)


def test_variance_weaker_than_the_lattice_counts_as_alike():
    """Fields that differ by rounding alone, of which one has no short waves at all, and the other its noise."""
    generator = np.random.default_rng(0)
    truth = np.full((64, 64), 280, np.float32)
    rounded = truth + generator.uniform(-0.5, 0.5, (64, 64)).astype(np.float32) / T2M.scale
    found = formulas.log_spectral_distance(whole_fields(rounded[None], truth, T2M, Scales((), periodic=True))["power"])
    assert found < 4  # decibels; without regard to the lattice it is over a hundred


def test_white_noise_has_its_variance_in_every_wave():
    noise = np.random.default_rng(1).normal(0, 3, (128, 128)).astype(np.float32)
    variance, waves = spectrum(noise, periodic=True)
    many = waves > 500
    np.testing.assert_allclose(variance[many] / waves[many], 9, rtol=0.15)


def test_a_domain_without_edges_may_be_rolled():
    forecasts, truth = storms(6)
    scales = Scales((3, 9), periodic=True)
    found = whole_fields(forecasts, truth, REFC, scales)
    rolled = whole_fields(np.roll(forecasts, (4, 8), (1, 2)), np.roll(truth, (4, 8), (0, 1)), REFC, scales)
    for name, expected in found.items():
        np.testing.assert_allclose(rolled[name], expected, rtol=2e-5, atol=1e-9)


def test_statistics_of_cases_add_up():
    (f1, t1), (f2, t2) = storms(7), storms(8)
    scales = Scales((3,), periodic=False)
    one, two = whole_fields(f1, t1, REFC, scales), whole_fields(f2, t2, REFC, scales)
    total = score_field(f1, t1, REFC, scales=scales) + score_field(f2, t2, REFC, scales=scales)
    for name, sums in total.whole_fields.items():
        np.testing.assert_array_equal(sums, one[name] + two[name])
    assert total.whole_fields["energy"][0] == 2


def test_nothing_to_score_is_nothing():
    forecasts, truth = storms(9)
    found = whole_fields(forecasts, np.full_like(truth, np.nan), REFC, Scales((3,), periodic=False))
    assert not any(map(np.any, found.values()))
