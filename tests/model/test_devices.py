"""Devices are found, or their absence is said plainly."""

import pytest
import torch

from convcast.errors import SettingsError
from convcast.model.devices import resolve


def test_auto_is_the_gpu_where_there_is_one():
    assert resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(SettingsError, match="no device"):
        resolve(name)
