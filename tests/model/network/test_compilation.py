"""torch.compile of the network, by a backend that runs the captured graph as it is."""

from __future__ import annotations

import pytest
import torch

from convcast.errors import SettingsError
from convcast.model.features.condition import channel_count
from convcast.model.network import compilation
from convcast.model.network.compilation import compile_network, missed
from convcast.model.network.network import Network


@pytest.fixture
def make_network(make_settings):
    def make():
        settings = make_settings(model={"dropout": 0.0, "attention": [2], "window": 2}).model
        network = Network(7, channel_count(7, settings.history), settings)
        for weights in network.parameters():
            if weights.ndim > 1 and not weights.any():
                torch.nn.init.normal_(weights, std=0.1)
        condition, x = torch.randn(1, channel_count(7, settings.history), 16, 16), torch.randn(2, 7, 16, 16)

        def run(network):
            encoded = network.encode(condition, torch.zeros(1, 3), periodic=False)
            return network(x, torch.full((2,), 0.5), encoded, periodic=False)

        return network, run

    return make


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch._dynamo, where warnings are errors
def test_a_compiled_network_is_the_same_network(make_network):
    network, run = make_network()
    expected, names = run(network), list(network.state_dict())
    assert compile_network(network, "on", torch.device("cpu"), backend="eager")
    torch.testing.assert_close(run(network), expected)
    assert list(network.state_dict()) == names


def test_nothing_is_compiled_on_a_cpu_unless_wanted(make_network):
    network, _ = make_network()
    assert not compile_network(network, "auto", torch.device("cpu"))
    assert not compile_network(network, "off", torch.device("cpu"))


def test_a_network_that_cannot_be_compiled_is_refused_with_the_reason(make_network, monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    with pytest.raises(SettingsError, match="cannot be compiled: there is no C") as caught:
        compile_network(make_network()[0], "on", torch.device("cpu"))
    assert "training.compile=auto" in caught.value.advice


@pytest.mark.parametrize(
    ("absent", "reason"),
    [("triton", "triton"), ("gpu", "compute capability 6.1"), ("cc", "C compiler"), ("h", "headers")],
)
def test_auto_says_what_a_gpu_lacks_to_compile(make_network, monkeypatch, tmp_path, absent, reason):
    """Triton compiles C when it first runs a kernel; a machine without a compiler must not fail at its first step."""
    gpu = torch.device("cuda", 0)
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compilation, "find_spec", lambda name: None if absent == "triton" else object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1) if absent == "gpu" else (8, 9))
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None if absent == "cc" else f"/bin/{name}")
    folder = tmp_path / "none" if absent == "h" else tmp_path
    monkeypatch.setattr(compilation.sysconfig, "get_paths", lambda: {"include": str(folder)})
    assert reason in missed("auto", gpu)
    assert not compile_network(make_network()[0], "auto", gpu)
    assert missed("off", gpu) is None
    with pytest.raises(SettingsError, match=reason):
        compile_network(make_network()[0], "on", gpu)


def test_a_gpu_that_lacks_nothing_compiles(monkeypatch, tmp_path):
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(compilation, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    monkeypatch.setattr(compilation.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(compilation.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert missed("auto", torch.device("cuda", 0)) is None
