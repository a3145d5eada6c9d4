"""Measurements of the network on one device, within a time limit.

Each is one row: device against CPU, training steps of each preset, the batch that fits, and members over the domain.
The same code runs on a GPU at the presets' sizes and, for tests, on a CPU at small ones.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from convcast.dataset import Window
from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.ensemble.tiles import cover
from convcast.errors import SettingsError
from convcast.grid import CONUS, Grid
from convcast.model import Condition, Forecaster, ModelDescription
from convcast.model.devices import convolutions_in, send
from convcast.model.distributed import Distributed
from convcast.model.features.condition import Features, channel_count
from convcast.model.features.inputs import Inputs
from convcast.model.network.network import Network
from convcast.model.training.batches import Batch
from convcast.model.training.records.progress import Tally
from convcast.model.training.trainer import Trainer
from convcast.operations.speed import made_up
from convcast.settings import DEFAULT_EVALUATIONS, SamplingSettings, Settings

GIGABYTE = 1e9
LEAD = 1
"""Lead time, hours, of the members."""
COMPILING = 180.0
"""Minimum time left, seconds, for the first measurement that compiles the network."""
BUILDING = 15.0
"""Minimum time left, seconds, for a measurement to make its model and inputs."""
SLOWEST, LIKELY = 0.1, 0.3
"""Shares of the measured peak at which a device computes the network: the lowest, and a likely one."""
MEMBERS_TIME = 60.0
"""Maximum time, seconds, of the members of a row at the likely share; if they take longer, fewer are drawn together."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the computations that are measured."""

    grid: Grid = CONUS
    tile: int = 256
    overlap: int = 64
    side: int = 256
    """Cells along each side of a training patch."""
    compared: int = 128
    """Cells along each side of the patch on which device and CPU are compared."""
    matrix: int = 8192
    """Rows of the matrices with whose product the device's peak is measured."""
    members: int = 4
    """Members drawn together in tiles, at most."""
    evaluations: tuple[int, ...] = (DEFAULT_EVALUATIONS, 10)
    """Numbers of evaluations of the denoiser for a member: that of `convcast sample`, and a round one to compare by."""
    warm_up: int = 3
    repeats: int = 5


SMALL = Sizes(Grid(48, 80, 400, 900), 32, 8, 32, 32, 64, 2, (1, 2), 1, 1)
"""Sizes for a test on a CPU."""


@dataclass(frozen=True)
class Measurement:
    """One measurement."""

    name: str
    """`peak`, `agreement`, `training`, `batch` or `member`."""
    preset: str = ""
    how: str = ""
    """Variant of the measurement: the precision, the layout in memory, tiles or one piece."""
    values: dict[str, float] = field(default_factory=dict)
    """Numbers with their units in their names."""
    note: str = ""
    """Reason why there are no values."""

    def filled(self, values: dict[str, float]) -> Measurement:
        """Return the row with values."""
        return replace(self, values=values)

    @property
    def result(self) -> str:
        """The values, or why there are none."""
        return self.note or ", ".join(f"{name} {value:.3g}" for name, value in self.values.items())

    def __str__(self) -> str:
        return " · ".join(part for part in (self.name, self.preset, self.how, self.result) if part)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is measured."""

    settings: Settings
    description: ModelDescription


class OutOfTimeError(Exception):
    """A measurement would end after the time limit."""


class Clock:
    """Measures times on the device, within a time limit."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device = device
        self.compiling = COMPILING
        """Time, seconds, of a compilation of the network, as far as is known."""
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Time left, seconds."""
        return self._ends - time.monotonic()

    def require(self, seconds: float) -> None:
        """Raise OutOfTimeError if fewer seconds are left."""
        if self.left < seconds:
            raise OutOfTimeError

    def once(self, run: Callable[[], object]) -> float:
        """Return the time of one run."""
        self.wait()
        started = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - started

    def seconds(self, run: Callable[[], object], *, each: float = 0.0, warm_up: int = 0, repeats: int = 1) -> float:
        """Return the mean time, s, of `run`, which takes at most some `each` seconds; repeat it less if time is short.

        The mean is that of at most `repeats` runs, after `warm_up` others; `each` is 0 where it is not known.

        Raises:
            OutOfTimeError: There is no time for one.
        """
        self.require((warm_up + 1) * each)
        for _ in range(warm_up):
            each = self.once(run)
        self.require(each)
        count = max(1, min(repeats, int(self.left / each))) if each else repeats

        def repeat() -> None:
            for _ in range(count):
                run()

        return self.once(repeat) / count

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak(self, run: Callable[[], object]) -> float:
        """Run, and return the peak of the device's memory in GB; 0 on a CPU, where it is not counted."""
        if self.device.type != "cuda":
            run()
            return 0.0
        torch.cuda.reset_peak_memory_stats(self.device)
        run()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) / GIGABYTE


def measure(
    presets: dict[str, Settings], device: torch.device, *, seconds: float, sizes: Sizes | None = None
) -> Iterator[Measurement]:
    """Measure in order of importance, and yield each row as it is ready; one without time left has a note.

    Args:
        presets: Settings by the name of their preset.
        device: The device.
        seconds: Time limit. A measurement does not begin if it would end later, as estimated from its operations and
            the times of the measurements before.
        sizes: Sizes of the computations; by default those of the presets.
    """
    sizes = Sizes() if sizes is None else sizes
    clock = Clock(device, seconds)
    row = peak(clock, sizes)
    yield row
    rate = row.values["TFLOP/s"]
    first = next(iter(presets))
    subjects = {preset: Subject(settings, made_up.description(settings)) for preset, settings in presets.items()}
    work: list[tuple[Measurement, Callable[[], Measurement]]] = []

    def later(name: str, preset: str, how: str, run: Callable[..., Measurement], **options: Any) -> None:
        empty = Measurement(name, preset, how)
        work.append((empty, lambda: run(empty, clock, sizes, subjects[preset], rate=rate, **options)))

    for exact in ("float32", "TF32"):
        later("agreement", first, f"preparation of a case, {exact}", preparation, precision=exact)
    for precision in ("float32", "TF32", "bfloat16"):
        later("agreement", first, precision, agreement, precision=precision)
    for preset in presets:
        later("training", preset, "channels last", training)
    later("member", first, "tiles", member, whole=False)
    later("member", first, "one piece", member, whole=True)
    for preset in presets:
        later("batch", preset, "largest", largest_batch)
    for preset in presets:
        later("training", preset, "channels first", training, channels_last=False)
    for preset in presets:
        if preset != first:
            later("member", preset, "tiles", member, whole=False)
            later("member", preset, "one piece", member, whole=True)
    for preset in presets:  # last, since the time of a compilation is the least certain
        later("training", preset, "channels last, compiled", training, compiled=True)
    for empty, run in work:
        yield _attempt(empty, run, clock)


def _attempt(empty: Measurement, run: Callable[[], Measurement], clock: Clock) -> Measurement:
    """Run one measurement; return a row with the reason if it is not possible."""
    try:
        clock.require(BUILDING)
        return run()
    except OutOfTimeError:
        note = "no time was left"
    except torch.OutOfMemoryError:
        note = "does not fit into the device's memory"
    except SettingsError as error:
        note = str(error)
    finally:
        gc.collect()
        if clock.device.type == "cuda":
            torch.cuda.empty_cache()
    return Measurement(empty.name, empty.preset, empty.how, note=note)


def peak(clock: Clock, sizes: Sizes) -> Measurement:
    """Measure the rate of a bfloat16 matrix product, the highest that the device reaches."""
    a, b = (torch.randn(sizes.matrix, sizes.matrix, device=clock.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = clock.seconds(lambda: a @ b, warm_up=sizes.warm_up, repeats=4 * sizes.repeats)
    return Measurement("peak", how="bfloat16 matrix product", values={"TFLOP/s": 2e-12 * sizes.matrix**3 / seconds})


def agreement(
    row: Measurement, clock: Clock, sizes: Sizes, subject: Subject, *, rate: float, precision: str
) -> Measurement:
    """Compare output and gradient with those of the CPU in float32, for the same weights and inputs.

    With `TF32` a GPU rounds the factors of convolutions alone, as in training and sampling where the precision is
    float32.

    Args:
        row: The row without values.
        clock: Measures times on the device.
        sizes: Sizes of the computations.
        subject: The model.
        rate: Measured peak of the device, TFLOP/s.
        precision: `float32`, `TF32` or `bfloat16`.
    """
    del rate
    torch.manual_seed(0)
    settings = subject.settings
    fields = len(settings.dataset.fields)
    network = Network(fields, channel_count(fields, settings.model.history), settings.model).eval()
    for weights in network.parameters():
        if weights.ndim > 1 and not weights.any():  # layers that start at zero would hide the layers before them
            torch.nn.init.normal_(weights, std=0.02)
    shape = (sizes.compared, sizes.compared)
    condition = torch.randn(1, channel_count(fields, settings.model.history), *shape)
    x, numbers, level = torch.randn(2, fields, *shape), torch.zeros(1, 3), torch.tensor([0.3, 0.7])

    def run(network: Network, device: torch.device, half: bool) -> tuple[Tensor, Tensor]:
        with convolutions_in("TF32" if precision == "TF32" else "float32"):
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                encoded = network.encode(condition.to(device), numbers.to(device), periodic=False)
                out = network(x.to(device), level.to(device), encoded, periodic=False)
            (out.square().mean() + encoded.mean.square().mean()).backward()
        gradient = torch.cat([weights.grad.flatten() for weights in network.parameters() if weights.grad is not None])
        result = torch.cat([out.detach().flatten(), encoded.mean.detach().flatten()]).cpu(), gradient.cpu()
        network.zero_grad()
        return result

    expected = run(network, torch.device("cpu"), half=False)
    network.to(clock.device)
    found = run(network, clock.device, half=precision == "bfloat16")
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True)]
    return row.filled({"relative error": errors[0], "relative error of the gradient": errors[1]})


def preparation(
    row: Measurement,
    clock: Clock,
    sizes: Sizes,
    subject: Subject,
    *,
    rate: float,
    precision: Literal["float32", "TF32"],
) -> Measurement:
    """Compare the features of a case on the device with those on the CPU, and time a batch.

    The arguments are those of `agreement`; it does not measure bfloat16.
    """
    del rate
    settings, residuals = subject.settings, subject.description.residuals

    def run(windows: list[Window], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        names = settings.model.inputs
        with convolutions_in(precision):
            inputs = Inputs.of(windows, residuals.normalisation, periodic=False, names=names, device=device)
            made = Features.of(inputs, residuals)
        return made.channels, made.reference, made.scale

    one = [made_up.case((sizes.compared, sizes.compared), settings, lead=LEAD)]
    pairs = zip(run(one, clock.device), run(one, torch.device("cpu")), strict=True)
    errors = [float((found.cpu() - expected).norm() / expected.norm()) for found, expected in pairs]
    names = ("relative error", "relative error of the reference", "relative error of its residuals' sizes")
    batch = [made_up.case((sizes.side, sizes.side), settings, lead=LEAD)] * settings.training.batch
    seconds = clock.seconds(lambda: run(batch, clock.device), warm_up=1, repeats=sizes.repeats)
    return row.filled(dict(zip(names, errors, strict=True)) | {"s a case": seconds / len(batch)})


def training(
    row: Measurement,
    clock: Clock,
    sizes: Sizes,
    subject: Subject,
    *,
    rate: float,
    compiled: bool = False,
    channels_last: bool = True,
) -> Measurement:
    """Measure an optimiser step without accumulation, with the preset's batch and draws.

    The arguments are those of `agreement`; `compiled` compiles the network, and `channels_last` is its layout in
    memory.
    """
    if compiled and clock.device.type == "cpu":
        return replace(row, note="compiled on GPUs only: on a CPU it takes minutes")
    settings = subject.settings
    cases, rows = settings.training.batch, settings.training.batch * settings.training.draws
    flops = flops_of_step(subject, sizes.side)
    slowest = flops / (SLOWEST * rate * 1e12)
    clock.require(BUILDING + slowest + (clock.compiling if compiled else 0))
    trainer = _trainer(subject, clock.device, compiled=compiled)
    trainer.objective.lay_out(torch.channels_last if channels_last else torch.contiguous_format)
    step = _stepper(trainer, _batch(settings, sizes, clock.device, cases=cases))
    first = clock.once(step)
    if compiled:
        clock.compiling = 1.5 * first  # the next network is larger
    gigabytes = clock.peak(step)
    seconds = clock.seconds(step, each=min(first, slowest), warm_up=sizes.warm_up, repeats=sizes.repeats)
    values = {"s a step": seconds, "rows a second": rows / seconds, "share of the peak": flops / seconds / rate / 1e12}
    return row.filled(values | ({"GB": gigabytes} if gigabytes else {}))


def largest_batch(row: Measurement, clock: Clock, sizes: Sizes, subject: Subject, *, rate: float) -> Measurement:
    """Find the largest batch: estimate it from the memory of one and two cases, then try it.

    The arguments are those of `agreement`.
    """
    del rate
    if clock.device.type != "cuda":
        return Measurement(row.name, row.preset, row.how, note="memory is not counted on a CPU")
    trainer, settings = _trainer(subject, clock.device, compiled=False), subject.settings

    def gigabytes(cases: int) -> float:
        step = _stepper(trainer, _batch(settings, sizes, clock.device, cases=cases))
        step()
        return clock.peak(step)

    one, two = gigabytes(1), gigabytes(2)
    each = clock.once(_stepper(trainer, _batch(settings, sizes, clock.device, cases=1)))
    total = torch.cuda.get_device_properties(clock.device).total_memory / GIGABYTE
    cases = max(1, int(1 + (0.95 * total - one) / max(two - one, 1e-3)))
    while cases > 1:
        clock.require(3 * cases * each)
        try:
            return row.filled({"cases": cases, "draws": settings.training.draws, "GB": gigabytes(cases)})
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            cases = int(0.9 * cases)
    return row.filled({"cases": 1, "draws": settings.training.draws, "GB": one})


def member(row: Measurement, clock: Clock, sizes: Sizes, subject: Subject, *, rate: float, whole: bool) -> Measurement:
    """Measure a member over the domain with the default solver, as `convcast sample` draws it.

    The measured time is from noise, which is drawn before, to fields in the machine's memory. All tiles have the
    condition of one case.

    The arguments are those of `agreement`; `whole` draws the domain in one piece instead of tiles.
    """
    settings, described = subject.settings, subject.description
    tiling = cover(sizes.grid, tile=max(sizes.grid.shape) if whole else sizes.tile, overlap=sizes.overlap)
    flops = flops_of_evaluation(settings, tiling.tile_shape) * len(tiling.tiles)
    members = 1 if whole else sizes.members
    while members > 1 and (1 + sum(sizes.evaluations)) * members * flops > MEMBERS_TIME * LIKELY * rate * 1e12:
        members //= 2
    clock.require(BUILDING + 2 * members * flops / (SLOWEST * rate * 1e12))
    forecaster = Forecaster(described, described.network(), "", device=str(clock.device), precision="auto")
    case = made_up.case(tiling.tile_shape, settings, lead=LEAD)
    noise = torch.randn(members, len(forecaster.variables), *tiling.shape)

    @torch.inference_mode()
    def denoiser() -> TiledDenoiser:
        def encode(*_: slice) -> Condition:
            return forecaster.condition([case], periodic=False)

        return TiledDenoiser(forecaster, tiling, encode, guidance=1.0, periodic=False)

    @torch.inference_mode()
    def draw(evaluations: int) -> NDArray[np.float32]:
        return made.draw(lambda _: send(noise, clock.device), SamplingSettings(steps=evaluations))

    encoding = clock.once(denoiser)
    made = denoiser()
    gigabytes = clock.peak(partial(draw, 1))
    first = clock.once(partial(draw, 1))
    values = {"members at once": float(members), "s for the conditions": encoding, "TFLOP an evaluation": flops / 1e12}
    for number, evaluations in enumerate(sizes.evaluations):
        if number > 0 and clock.left < evaluations * first:
            break
        seconds = clock.seconds(partial(draw, evaluations), each=evaluations * first) / members
        values |= {
            f"s a member, {evaluations} evaluations": seconds,
            f"share of the peak, {evaluations} evaluations": evaluations * flops / seconds / rate / 1e12,
        }
    return row.filled(values | ({"GB": gigabytes} if gigabytes else {}))


@cache
def flops_of_step(subject: Subject, side: int) -> float:
    """Count the operations of a training step, forward and backward, without computing it.

    It has the preset's batch, whose patches have `side` rows and columns and are encoded once for all their draws.
    """
    cases, draws = subject.settings.training.batch, subject.settings.training.draws
    with FakeTensorMode():
        network, condition, numbers, x, level = _inputs(subject.settings, (side, side), cases=cases, rows=cases * draws)
        with FlopCounterMode(display=False) as counter:
            encoded = network.encode(condition, numbers, periodic=False)
            out = network(x, level, encoded.repeated(draws), periodic=False)
            (out.sum() + encoded.mean.sum() + encoded.scale.sum()).backward()
    return float(counter.get_total_flops())


def flops_of_evaluation(settings: Settings, shape: tuple[int, int]) -> float:
    """Count the operations of one evaluation of one member on an area of this shape, whose condition is encoded."""
    with FakeTensorMode(), torch.no_grad():
        network, condition, numbers, x, level = _inputs(settings, shape, cases=1, rows=1)
        encoded = network.encode(condition, numbers, periodic=False)
        with FlopCounterMode(display=False) as counter:
            network(x, level, encoded, periodic=False)
    return float(counter.get_total_flops())


def _inputs(
    settings: Settings, shape: tuple[int, int], *, cases: int, rows: int
) -> tuple[Network, Tensor, Tensor, Tensor, Tensor]:
    """Return a network and its inputs; within FakeTensorMode they have no values."""
    fields = len(settings.dataset.fields)
    conditions = channel_count(fields, settings.model.history)
    network = Network(fields, conditions, settings.model)
    condition, x = torch.empty(cases, conditions, *shape), torch.empty(rows, fields, *shape)
    return network, condition, torch.empty(cases, 3), x, torch.empty(rows)


def _trainer(subject: Subject, device: torch.device, *, compiled: bool) -> Trainer:
    training = subject.settings.training.model_copy(update={"compile": "on" if compiled else "off"})
    return Trainer(subject.description, training, Distributed(device))


def _stepper(trainer: Trainer, batch: Batch) -> Callable[[], None]:
    tally = Tally()
    return lambda: trainer.learn([batch], 1e-5, tally)


def _batch(settings: Settings, sizes: Sizes, device: torch.device, *, cases: int) -> Batch:
    fields, shape = len(settings.dataset.fields), (sizes.side, sizes.side)
    channels = torch.randn(cases, channel_count(fields, settings.model.history), *shape, device=device)
    residuals = torch.randn(cases, fields, *shape, device=device)
    spectra = torch.zeros(cases, dtype=torch.int64, device=device)
    return Batch(channels.bfloat16(), torch.zeros(cases, 3, device=device), residuals, spectra)
