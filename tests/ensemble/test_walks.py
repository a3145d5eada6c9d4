"""Walks: perturbations add up from hour to hour, and the same member is drawn again."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from gaussian import FAST, INIT, Still, make_dataset

from convcast.ensemble import sample
from convcast.errors import SettingsError

PERTURBATION = Still(leads=(0,), mean=0.0, sha256="89ab")
T2M_SPREAD = 2.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("walks") / "dataset.zarr")


def walked(dataset, path, *, members=range(10), leads=(1, 2), forecaster=None, perturbation=PERTURBATION, **changed):
    settings = FAST.model_copy(update={"method": "walks", **changed})
    forecaster = forecaster or Still(leads=(1,))
    words = {"init": INIT, "members": members, "leads": leads, "settings": settings, "perturbation": perturbation}
    done = list(sample(forecaster, dataset, path, **words))
    return done, xr.open_zarr(path, consolidated=False, decode_timedelta=True)


@pytest.mark.parametrize("walks", [1, 3])
def test_the_variance_of_walks_adds_up(dataset, tmp_path, walks):
    """The reference of this world is the last frame, so each perturbation adds the same variance."""
    done, data = walked(dataset, tmp_path / "f.zarr", walks=walks)
    assert len(done) == 20
    spread = data.t2m.isel(init_time=0).std("number", ddof=1)
    for lead, hours in ((0, 1), (1, 2)):
        found = float(np.sqrt((spread.isel(lead_time=lead) ** 2).mean()))
        assert found == pytest.approx(T2M_SPREAD * np.sqrt(walks * hours), rel=0.05)


def test_a_member_is_drawn_again_whatever_is_drawn_with_it(dataset, tmp_path):
    _, together = walked(dataset, tmp_path / "together.zarr")
    _, alone = walked(dataset, tmp_path / "alone.zarr", members=(4,), leads=(2,))
    one, other = (
        data.t2m.isel(init_time=0, number=4).sel(lead_time=np.timedelta64(2, "h")) for data in (together, alone)
    )
    np.testing.assert_array_equal(one.values, other.values)


def test_the_file_says_how_members_were_made(dataset, tmp_path):
    _, data = walked(dataset, tmp_path / "f.zarr", members=range(2), leads=(1,), walks=2)
    assert data.attrs["method"] == "walks"
    assert data.attrs["walks"] == 2
    assert data.attrs["perturbation"] == "perturbation", "the name in the settings"
    assert data.attrs["perturbation_sha256"] == "89ab"
    assert "walks about the reference forecast" in data.attrs["source"]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"perturbation": Still(leads=(1,))}, "does not perturb states"),
        ({"perturbation": None}, "does not perturb states"),
        ({"forecaster": Still(leads=(3,))}, "step the reference forecast by one hour"),
        ({"forecaster": PERTURBATION, "method": "diffusion"}, "perturbs the state of an hour"),
    ],
)
def test_wrong_models_are_refused(dataset, tmp_path, models, message):
    with pytest.raises(SettingsError, match=message):
        walked(dataset, tmp_path / "f.zarr", **models)
    assert not (tmp_path / "f.zarr").exists()
