"""Devices are found, or their absence is said plainly."""

import pytest
import torch

from convcast.errors import SettingsError
from convcast.model.devices import resolve, resolve_precision


def test_auto_is_the_gpu_where_there_is_one():
    assert resolve("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(SettingsError, match="no device"):
        resolve(name)


def test_auto_precision_is_what_the_processor_computes_in(monkeypatch):
    cpu = torch.device("cpu")
    for supported, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda supported=supported: supported)
        assert resolve_precision("auto", cpu) == expected
        assert resolve_precision("bfloat16", cpu) == "bfloat16"
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    assert resolve_precision("auto", cpu) == "float32"
