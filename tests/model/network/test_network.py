from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from convcast.errors import SettingsError
from convcast.model.features.condition import channel_count
from convcast.model.network.layers import ChannelNorm, Convolution, WindowAttention
from convcast.model.network.network import Network
from convcast.settings.load import load_settings


def network(settings, *, fields=7) -> Network:
    return Network(fields, channel_count(fields, settings.history), settings)


def randomised(net: Network, scale: float = 0.05) -> Network:
    """Zero-initialised layers would hide whatever comes before them."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@pytest.fixture
def model(make_settings):
    return make_settings().model


def run(net, condition, x, *, periodic):
    encoded = net.encode(condition, torch.zeros(len(condition), 3), periodic=periodic)
    return net(x, torch.full((len(x),), 0.5), encoded, periodic=periodic), encoded


def inputs(model, ny, nx, members=2):
    generator = torch.Generator().manual_seed(1)
    condition = torch.randn(1, channel_count(7, model.history), ny, nx, generator=generator)
    return condition, torch.randn(members, 7, ny, nx, generator=generator)


@pytest.mark.parametrize(
    ("preset", "low", "high"), [("demo", 0.5e6, 2e6), ("phase1", 31e6, 34e6), ("phase2", 200e6, 500e6)]
)
def test_presets_have_the_size_they_claim(preset, low, high):
    with torch.device("meta"):
        net = network(load_settings(preset=preset).model)
    assert low < sum(p.numel() for p in net.parameters()) < high


def test_the_first_levels_may_be_wider_than_the_base(make_settings):
    model = make_settings(model={"multipliers": [3, 4], "encoder_multipliers": [2]}).model
    condition, x = inputs(model, 16, 16)
    found, encoded = run(network(model), condition, x, periodic=True)
    assert found.shape == x.shape
    assert encoded.mean.shape == (1, *x.shape[1:])


def test_building_a_network_without_memory_imports_no_compiler():
    code = """
import sys, torch
from convcast.settings.load import load_settings
from convcast.model.network.network import Network
with torch.device("meta"):
    Network(7, 40, load_settings(None, {}, preset="demo").model)
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_convolution_that_wraps_is_torchs_own_with_circular_padding():
    """Values and all gradients, bit for bit."""
    ours = Convolution(3, 5, stride=2)
    torchs = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1, padding_mode="circular")
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 6, 4, requires_grad=True)
    found, expected = ours(x, periodic=True), torchs(x)
    weight = torch.randn(found.shape)
    assert torch.equal(found, expected)
    gradients = [
        torch.autograd.grad((out * weight).sum(), [x, *module.parameters()])
        for out, module in ((found, ours), (expected, torchs))
    ]
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pixel_is_normalised_by_its_own_mean_square(layout):
    """Its mean square over channels (Zhang & Sennrich 2019), whichever way it lies in memory; nothing stays nothing."""
    x = torch.randn(2, 16, 5, 7)
    x[:, :, 0, 0] = 0
    normalised = ChannelNorm()(x.contiguous(memory_format=layout))
    torch.testing.assert_close(normalised, x / (x.square().mean(dim=1, keepdim=True) + 1e-5).sqrt())
    assert not normalised[:, :, 0, 0].any()


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("ny", "nx"), [(16, 16), (19, 30), (33, 17)])
def test_any_size_comes_back_as_it_went_in(model, ny, nx, periodic):
    condition, x = inputs(model, ny, nx)
    out, encoded = run(randomised(network(model)), condition, x, periodic=periodic)
    assert out.shape == x.shape
    assert encoded.mean.shape == encoded.scale.shape == (1, 7, ny, nx)
    assert out.isfinite().all()


def test_an_untrained_network_predicts_nothing_and_guesses_no_residual_of_spread_one(model):
    condition, x = inputs(model, 16, 16)
    out, encoded = run(network(model), condition, x, periodic=True)
    torch.testing.assert_close(out, torch.zeros_like(out))
    torch.testing.assert_close(encoded.mean, torch.zeros_like(encoded.mean))
    torch.testing.assert_close(encoded.scale, torch.ones_like(encoded.scale))


def test_members_do_not_meet(model):
    condition, x = inputs(model, 16, 16, members=3)
    net = randomised(network(model))
    together, _ = run(net, condition, x, periodic=True)
    alone, _ = run(net, condition, x[1:2], periodic=True)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


def test_rolling_a_torus_rolls_the_output(make_settings):
    """The shifts are multiples of the coarsest cell, and there is no attention."""
    model = make_settings(model={"attention": []}).model
    condition, x = inputs(model, 16, 24)
    net = randomised(network(model))
    shift = {"shifts": (4, -8), "dims": (2, 3)}
    rolled, _ = run(net, condition.roll(**shift), x.roll(**shift), periodic=True)
    straight, _ = run(net, condition, x, periodic=True)
    torch.testing.assert_close(rolled, straight.roll(**shift), atol=1e-5, rtol=1e-4)
    assert straight.std() > 1e-4


@pytest.mark.parametrize("changes", [{"attention": []}, {"unshuffle": 1}, {}, {"multipliers": [1, 2, 2], "blocks": 1}])
def test_the_interior_does_not_depend_on_how_far_away_the_domain_ends(make_settings, changes):
    """Nothing from beyond `reach` touches a pixel: no statistic over the domain, no attention over all of it."""
    model = make_settings(model=changes).model
    net = randomised(network(model), scale=0.1)
    reach, inside = net.receptive_radius(), 16
    ny, cut = 16, -(-(reach + inside) // 16) * 16
    condition, x = inputs(model, ny, cut + 64)
    whole, _ = run(net, condition, x, periodic=False)
    part, _ = run(net, condition[..., :cut], x[..., :cut], periodic=False)
    torch.testing.assert_close(part[..., :inside], whole[..., :inside], atol=1e-5, rtol=1e-4)
    assert (part[..., -4:] - whole[..., cut - 4 : cut]).abs().max() > 1e-4  # where it ends does matter near the end


def test_the_network_sees_most_of_its_reach(make_settings):
    """The bound is not idle: most of it is used, where there is no attention."""
    net = randomised(network(make_settings(model={"attention": []}).model), scale=0.1).double()
    condition, x = (value.double() for value in inputs(make_settings().model, 16, 192, members=1))
    condition.requires_grad_(True)
    encoded = net.encode(condition, torch.zeros(1, 3).double(), periodic=False)
    net(x, torch.full((1,), 0.5).double(), encoded, periodic=False)[..., 96].sum().backward()
    columns = condition.grad.abs().amax(dim=(0, 1, 2)).nonzero().flatten()
    seen = max(96 - int(columns.min()), int(columns.max()) - 96)
    assert 0.7 * net.receptive_radius() <= seen <= net.receptive_radius()


def test_attention_stays_within_its_window():
    attention = WindowAttention(8, 4)
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[..., 4:, 4:] += 1
    difference = (attention(changed) - attention(x)).abs().amax(dim=(0, 1)) > 1e-6
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, 4:] = True
    torch.testing.assert_close(difference, expected)


def test_tokens_that_only_fill_a_window_are_not_attended_to():
    attention = WindowAttention(8, 4)
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 8, 4, 6)
    torch.testing.assert_close(attention(x)[..., :4], attention(x[..., :4]))
    torch.testing.assert_close(attention(x)[..., 4:], attention(x[..., 4:]))


def test_a_blank_condition_is_the_same_whatever_the_condition(model):
    condition, x = inputs(model, 16, 16)
    net = randomised(network(model))
    outs = []
    for given in (condition, -condition):
        encoded = net.encode(given, torch.ones(1, 3), periodic=True).blanked(True)
        outs.append((net(x, torch.full((2,), 0.5), encoded, periodic=True), encoded.mean, encoded.scale))
    torch.testing.assert_close(*outs)


def test_channels_that_cannot_be_divided_among_heads_are_refused():
    with pytest.raises(SettingsError, match="200 channels cannot be divided among 3 attention heads"):
        WindowAttention(200, 8)
