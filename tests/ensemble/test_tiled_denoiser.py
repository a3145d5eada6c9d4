from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from gaussian import INIT, SPREAD, VARIABLES, GaussianForecaster, make_dataset

from convcast.dataset import sun_of, window
from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.ensemble.tiles import cover
from convcast.grid import Grid
from convcast.notation import HOUR

GRID = Grid(50, 70, 300, 800)
TILING = cover(GRID, tile=30, overlap=12)


class Recording(GaussianForecaster):
    """Its tiles have references of their own, and it keeps what it is asked."""

    growth = 0.0
    """Growth of the scale from tile to tile, as a share of SPREAD."""

    def __post_init__(self):
        super().__post_init__()
        self.numbers, self.references, self.seen = {}, {}, {}

    def condition(self, windows, *, periodic):
        made = super().condition(windows, periodic=periodic)
        made.number = self.numbers.setdefault(windows[0].sun.tobytes(), len(self.numbers))
        made.reference = torch.from_numpy(windows[0].history[-1][None]) + 0.4 * made.number * SPREAD
        made.scale = (1 + self.growth * made.number) * SPREAD
        self.references[made.number] = made.reference
        return made

    def predict_noise(self, x, t, condition, *, guidance=1.0):
        self.seen[condition.number] = x
        return torch.full_like(x, float(condition.number))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("case") / "dataset.zarr", GRID)


@pytest.fixture
def forecaster():
    return Recording()


@pytest.fixture
def case(dataset, forecaster):
    return TiledDenoiser.of_hours(forecaster, dataset, TILING, init=INIT, lead=1, guidance=1.0)


def blended_reference(forecaster):
    total = torch.zeros(1, len(VARIABLES), *GRID.shape)
    for number, (weight, (rows, columns)) in enumerate(zip(TILING.weights, TILING.tiles, strict=True)):
        total[..., rows, columns] += forecaster.references[number] * torch.from_numpy(weight)
    return total


def assert_same_fields(forecaster, x, signal):
    """The tiles saw the fields of which `x` is the residual from the blended reference."""
    domain = signal * blended_reference(forecaster) + x * SPREAD
    assert len(TILING.tiles) == len(forecaster.seen)
    for number, (rows, columns) in enumerate(TILING.tiles):
        tile = signal * forecaster.references[number] + forecaster.seen[number] * SPREAD
        torch.testing.assert_close(tile, domain[..., rows, columns], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("t", [0, 20, 49])
def test_each_tile_sees_the_same_noisy_fields_as_residuals_from_its_own_reference(case, forecaster, t):
    x = torch.randn(2, len(VARIABLES), *GRID.shape)
    signal = float(forecaster.schedule.signal[t])

    case.predict_noise(x, t)

    assert_same_fields(forecaster, x, signal)


@pytest.mark.parametrize("cached_tiles", [None, 2])
def test_tiles_with_scales_of_their_own_are_given_the_blended_scale(dataset, forecaster, cached_tiles):
    forecaster.growth = 0.3
    case = TiledDenoiser.of_hours(
        forecaster, dataset, TILING, init=INIT, lead=1, guidance=1.0, cached_tiles=cached_tiles
    )
    blended = torch.zeros(1, len(VARIABLES), *GRID.shape)
    for number, (weight, (rows, columns)) in enumerate(zip(TILING.weights, TILING.tiles, strict=True)):
        blended[..., rows, columns] += torch.from_numpy(weight) * (1 + 0.3 * number) * SPREAD
    x0 = torch.randn(1, len(VARIABLES), *GRID.shape).clamp(-0.5, 0.5)

    fields = case.fields(x0)

    expected = blended_reference(forecaster) + x0 * blended
    np.testing.assert_allclose(fields[:, 1], expected[:, 1].numpy(), rtol=1e-4)


def test_the_noise_is_the_weighted_mean_of_the_tiles(case):
    blended = case.predict_noise(torch.zeros(1, len(VARIABLES), *GRID.shape), 10)[0, 0]

    numbers = np.zeros(GRID.shape)
    for number, (weight, (rows, columns)) in enumerate(zip(TILING.weights, TILING.tiles, strict=True)):
        numbers[rows, columns] += number * weight
    np.testing.assert_allclose(blended.numpy(), numbers, atol=1e-4)


def test_fields_are_the_blended_reference_and_the_residual(case, forecaster):
    x0 = torch.randn(2, len(VARIABLES), *GRID.shape).clamp(-1, 1)

    expected = blended_reference(forecaster) + x0 * SPREAD

    np.testing.assert_allclose(case.fields(x0)[:, 1], expected[:, 1].numpy(), rtol=1e-4)


def test_a_clamped_state_has_fields_within_bounds_and_is_not_changed_by_clamping_again(case, forecaster):
    clamped = case.clamp(20 * torch.randn(1, len(VARIABLES), *GRID.shape))

    fields = blended_reference(forecaster) + clamped * SPREAD
    for i, variable in enumerate(VARIABLES):
        assert variable.bounds[0] - 1e-2 <= fields[:, i].min()
        assert fields[:, i].max() <= variable.bounds[1] + 1e-2
    torch.testing.assert_close(clamped, case.clamp(clamped), rtol=1e-4, atol=1e-4)


def test_motions_of_the_members_are_estimated_at_once_and_each_goes_to_its_member(dataset, forecaster, monkeypatch):
    both, given = threading.Barrier(2, timeout=10), []

    def estimate(dataset, init, *, history, past):
        both.wait()
        return np.full((2, 8, 10), past[0, 0, 0, 0], np.float16)

    def encode(windows, *, periodic):
        given.append([float(window.motion[0, 0, 0]) for window in windows])
        return Recording.condition(forecaster, windows, periodic=periodic)

    monkeypatch.setattr("convcast.ensemble.tiled_denoiser.domain_motion", estimate)
    monkeypatch.setattr(forecaster, "condition", encode)
    past = dataset.read(INIT + np.arange(-3, 1) * HOUR)
    pasts = np.stack([np.full_like(past, number) for number in (1, 2, 3, 4)])
    TiledDenoiser.of_hours(forecaster, dataset, TILING, init=INIT, lead=1, guidance=1.0, pasts=pasts, threads=2)
    assert given[0] == [1, 2, 3, 4]


def test_the_members_of_a_tile_share_its_sun(dataset, forecaster, monkeypatch):
    """It is the same for all, and to find the places of a tile takes longer than the rest of its window."""
    suns = []
    monkeypatch.setattr(
        "convcast.ensemble.tiled_denoiser.sun_of",
        lambda grid, init, lead: suns.append(sun_of(grid, init, lead)) or suns[-1],
    )
    past = dataset.read(INIT + np.arange(-3, 1) * HOUR)
    TiledDenoiser.of_hours(forecaster, dataset, TILING, init=INIT, lead=1, guidance=1.0, pasts=np.stack([past] * 3))
    assert len(suns) == len(TILING.tiles)
    for (rows, columns), sun in zip(TILING.tiles, suns, strict=True):
        np.testing.assert_array_equal(sun, window(dataset, INIT, 1, rows=rows, columns=columns).sun)
