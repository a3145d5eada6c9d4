"""The network on a GPU, as far as a machine without one can tell: types, devices and memory, on fake tensors."""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from fake_cuda import CUDA, NoWaiting, SavedTensors, fake_cuda, pinned

from convcast.dataset.cases import windows
from convcast.ensemble import cover, latest_init
from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.grid import Grid
from convcast.model import Forecaster, ModelDescription
from convcast.model.diffusion.linear_flow import LinearFlow
from convcast.model.diffusion.noise_prediction import Diffusion
from convcast.model.diffusion.solvers import SOLVERS
from convcast.model.diffusion.spectrum import BANDS, Spectrum
from convcast.model.features.condition import channel_count, number_count
from convcast.model.network.network import Network
from convcast.model.training import preparation
from convcast.model.training.batches import Batch
from convcast.model.training.objective import NoisedBatch, Objective
from convcast.operations.speed import made_up
from convcast.settings import ModelSettings, Settings
from convcast.settings.load import load_settings

FIELDS = 7
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "training.md"


def network(settings: ModelSettings) -> Network:
    """Made outside the GPU, which a build without CUDA cannot draw initial weights on."""
    with torch.device("meta"):
        net = Network(FIELDS, channel_count(FIELDS, settings.history), settings)
    return net.to(CUDA).to(memory_format=torch.channels_last)


def observed(net: Network) -> dict[str, torch.Tensor]:
    """Outputs of each part of the network, filled while it runs."""
    outputs: dict[str, torch.Tensor] = {}

    def record(name):
        def hook(module, inputs, output):
            if isinstance(output, torch.Tensor):
                outputs[name] = output

        return hook

    for name, part in net.named_modules():
        part.register_forward_hook(record(name))
    return outputs


def tables(settings: ModelSettings) -> Diffusion:
    """The diffusion process, whose tables are computed on the CPU."""
    return Diffusion(settings, [Spectrum.white(FIELDS)])


def placed(process: Diffusion) -> Diffusion:
    """The same with tables on the GPU, without their values."""
    for name in ("signal", "noise", "level", "_gains"):
        setattr(process, name, torch.empty(getattr(process, name).shape, device=CUDA))
    return process


@cache
def fitted() -> ModelDescription:
    """A description whose reference is fitted to made-up weather, on which no network depends."""
    return made_up.description(load_settings(preset="phase1"))


def training_step(settings: Settings, *, side: int, cases: int, draws: int, periodic: bool = False):
    """The network after the forward pass of one batch, its parts' outputs, the loss's terms, and the saved tensors."""
    model = settings.model
    forced = model.forcing != "none"
    # A copy, since what is described once keeps the fake tensors of another test.
    description = replace(deepcopy(fitted()), model=model, grid=Grid(side, side, 300, 800, periodic))
    with fake_cuda():
        objective = Objective(description, settings.training, CUDA)
        net = objective.network
        outputs, saved = observed(net), SavedTensors()
        rows, channels = cases * draws, channel_count(FIELDS, model.history, forced=forced)
        batch = Batch(
            torch.empty(cases, channels, side, side, dtype=torch.bfloat16, device=CUDA),
            torch.empty(cases, number_count(forced=forced), device=CUDA),
            torch.empty(cases, FIELDS, side, side, device=CUDA),
            torch.empty(cases, dtype=torch.int64, device=CUDA),
        )
        noised = NoisedBatch(
            batch,
            torch.empty(rows, dtype=torch.int64, device=CUDA),
            torch.empty(rows, FIELDS, side, side, device=CUDA),
            torch.empty(rows, 1, 1, 1, dtype=torch.bool, device=CUDA),
        )
        with saved, NoWaiting():
            loss, losses = objective(noised)
        assert (loss.dtype, loss.device, loss.shape) == (torch.float32, CUDA, ())
        return net, outputs, losses, saved


@pytest.mark.parametrize("periodic", [False, True])
def test_every_feature_of_a_training_step_on_a_gpu_is_bfloat16(make_settings, periodic):
    settings = make_settings(model={"attention": [4], "dropout": 0.1}, training={"precision": "bfloat16"})
    net, outputs, losses, _ = training_step(settings, side=16, cases=2, draws=3, periodic=periodic)
    found = {name: out.dtype for name, out in outputs.items() if name}
    assert {name for name, dtype in found.items() if dtype != torch.bfloat16} == set()
    assert outputs[""].dtype == torch.float32
    assert len(found) > 60
    assert {out.device for out in outputs.values()} == {CUDA}
    assert [
        (loss.dtype, loss.device, len(loss)) for loss in (losses.noise, losses.coarse, losses.mean, losses.scale)
    ] == [
        (torch.float32, CUDA, 6),
        (torch.float32, CUDA, 6),
        (torch.float32, CUDA, 2),
        (torch.float32, CUDA, 2),
    ]
    assert {weights.dtype for weights in net.parameters()} == {torch.float32}


def test_every_feature_is_float32_where_that_is_the_precision(make_settings):
    settings = make_settings(training={"precision": "float32"})
    _, outputs, _, _ = training_step(settings, side=16, cases=1, draws=1)
    assert {out.dtype for out in outputs.values()} == {torch.float32}


def test_a_gpu_and_a_cpu_compute_in_the_same_types(make_settings):
    """Autocast has other lists on each; the network leaves nothing to them."""
    changed = make_settings(model={"dropout": 0.1}, training={"precision": "bfloat16"})
    settings = changed.model
    _, on_gpu, _, _ = training_step(changed, side=16, cases=1, draws=1)
    net = Network(FIELDS, channel_count(FIELDS, settings.history), settings)
    on_cpu = observed(net)
    with torch.autocast("cpu", torch.bfloat16):
        condition = torch.zeros(1, channel_count(FIELDS, settings.history), 16, 16, dtype=torch.bfloat16)
        encoded = net.encode(condition, torch.zeros(1, 3), periodic=False)
        net(torch.zeros(1, FIELDS, 16, 16), torch.zeros(1), encoded, periodic=False)
    assert {name: out.dtype for name, out in on_cpu.items()} == {name: out.dtype for name, out in on_gpu.items()}


@pytest.mark.parametrize("solver", ["exponential", "unipc", "ddpm"])
def test_a_sampling_step_stays_on_the_gpu_in_the_right_types(make_settings, solver):
    settings = make_settings().model
    real = tables(settings)
    flow = LinearFlow(real.spectra[0], real.schedule, real.schedule.timesteps(3).tolist())
    with fake_cuda(), torch.no_grad():
        net, process = network(settings), placed(real)
        for name in ("_of_state", "_of_network"):
            setattr(flow, name, [torch.empty(gains.shape, device=CUDA) for gains in getattr(flow, name)])
        outputs = observed(net)
        with torch.autocast("cuda", torch.bfloat16):
            condition = torch.empty(1, channel_count(FIELDS, settings.history), 16, 16, device=CUDA)
            encoded = net.encode(condition, torch.empty(1, 3, device=CUDA), periodic=False)

        def denoise(x, t):
            with torch.autocast("cuda", torch.bfloat16):
                step = torch.full((1,), t, device=CUDA)
                spectra = torch.empty(1, dtype=torch.int64, device=CUDA)
                return process.predict_noise(net, x, step, encoded, spectra=spectra, periodic=False)

        x0 = SOLVERS[solver](
            denoise,
            torch.empty(3, FIELDS, 16, 16, device=CUDA),
            schedule=process.schedule,
            steps=3,
            clamp=lambda x: x,
            noise=lambda k: torch.empty(3, FIELDS, 16, 16, device=CUDA),
            **({"flow": flow, "periodic": False} if solver == "exponential" else {}),
        )
        assert (x0.dtype, x0.device, x0.shape) == (torch.float32, CUDA, (3, FIELDS, 16, 16))
        assert {out.dtype for name, out in outputs.items() if name} == {torch.bfloat16}
        assert {out.device for out in outputs.values()} == {CUDA}


@pytest.fixture(scope="module")
def with_edges(make_dataset):
    return make_dataset(simulated=False, periodic=False, side=24)


@pytest.mark.parametrize("periodic", [False, True])
def test_cases_are_prepared_on_the_gpu_without_a_wait(dataset, with_edges, make_settings, monkeypatch, periodic):
    """Prepare cases from the dataset's integers: unpacking, standardising, advection, reference and scale."""
    monkeypatch.setattr(windows, "IN_MEMORY", 0)
    dataset = dataset if periodic else with_edges
    settings = make_settings()
    cases, _ = preparation.cases(dataset, preparation.describe(dataset, settings), settings)
    monkeypatch.setattr(cases, "_kept", None)
    drawn = [cases.drawn(number) for number in (0, len(cases) - 1)]
    with fake_cuda(), pinned(), NoWaiting():
        batch = cases.together(drawn, CUDA)
    assert {values.device for values in batch} == {CUDA}
    assert [values.dtype for values in batch] == [torch.bfloat16, torch.float32, torch.float32, torch.int64]
    assert [len(values) for values in batch] == [2, 2, 2, 2]


def test_a_list_of_indices_would_be_seen_to_wait():
    with fake_cuda(), NoWaiting(), pytest.raises(AssertionError, match="waits for the GPU"):
        torch.empty(3, 4, device=CUDA)[:, [0, 2]]
    with fake_cuda(), NoWaiting(), pytest.raises(AssertionError, match="waits for the GPU"):
        torch.empty(3, 4, device=CUDA).cpu()


def test_no_tile_goes_through_the_cpu(with_edges, make_settings, monkeypatch):
    """A step of the solver over a domain of several tiles, whose conditions are kept."""
    for name in ("condition", "predict_noise", "clamp"):  # fake tensors know no inference mode
        monkeypatch.setattr(Forecaster, name, getattr(Forecaster, name).__wrapped__)
    settings = make_settings()
    # A copy, since what is described once keeps the fake tensors of another test.
    description = ModelDescription.from_dict(preparation.describe(with_edges, settings).to_dict())
    tiling = cover(with_edges.grid, tile=16, overlap=8)
    with fake_cuda(), pinned(), torch.no_grad():
        with torch.device("meta"):
            bare = description.network()
        forecaster = Forecaster(description, bare.to(CUDA), "", device=str(CUDA))
        init = latest_init(with_edges, forecaster)
        denoiser = TiledDenoiser.of_hours(forecaster, with_edges, tiling, init=init, lead=1, guidance=1.0)
        state = torch.empty(2, FIELDS, *tiling.shape, device=CUDA)
        with NoWaiting():
            predicted = denoiser.clamp(denoiser.predict_noise(state, 20))
    assert len(tiling.tiles) > 1
    assert (predicted.dtype, predicted.device, predicted.shape) == (torch.float32, CUDA, state.shape)


def test_the_gains_of_the_bands_are_applied_in_float32(make_settings):
    """A state's finest bands are differences; bfloat16 has three digits."""
    settings = make_settings().model
    real = tables(settings)
    assert real._gains.shape == (1, settings.diffusion_steps, FIELDS, FIELDS * BANDS)
    with fake_cuda():
        process = placed(real)
        with torch.autocast("cuda", torch.bfloat16):
            x, t = torch.empty(2, FIELDS, 16, 16, device=CUDA), torch.empty(2, dtype=torch.int64, device=CUDA)
            spectra = torch.empty(2, dtype=torch.int64, device=CUDA)
            assert process._expected(x, t, spectra, periodic=False).dtype == torch.float32


@pytest.mark.parametrize("preset", ["phase1", "phase2"])
def test_a_preset_fits_its_gpu_and_takes_what_the_documentation_says(preset):
    """A card of 24 GiB; a quarter is left for libraries, the working space of convolutions and fragments."""
    settings = load_settings(preset=preset, flags={"training": {"precision": "bfloat16"}})
    training = settings.training
    net, _, _, saved = training_step(settings, side=training.patch, cases=training.batch, draws=training.draws)
    parameters = sum(weights.numel() for weights in net.parameters())
    static, kept = 20e-9 * parameters, sum(saved.bytes_by_dtype(net).values()) / 1e9
    assert static + kept < 0.75 * 24 * 1.024**3
    (row,) = re.findall(rf"^\| {preset[:-1]} {preset[-1]} \(base .*$", DOCUMENTATION.read_text(), re.MULTILINE)
    documented = [float(number) for number in re.findall(r"([\d.]+) (?:M|GB)", row)]
    assert documented == pytest.approx([parameters / 1e6, static, kept, static + kept], rel=0.03)
