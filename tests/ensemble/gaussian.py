"""A world in which the ensemble is known: residuals are normal, and the best noise prediction is a formula."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import convcast.grib  # noqa: F401
from convcast.dataset import Dataset, HourStatus
from convcast.dataset.layout import DatasetDescription
from convcast.dataset.store import Store
from convcast.grid import SPACING, Grid
from convcast.model import Forecaster
from convcast.model.diffusion.linear_flow import LinearFlow
from convcast.model.diffusion.schedule import cosine
from convcast.model.diffusion.spectrum import Spectrum
from convcast.notation import HOUR
from convcast.settings import SamplingSettings
from convcast.variables import select

START = np.datetime64("2024-05-06T00", "h")
INIT = START + 3 * HOUR
VARIABLES = select(["refc", "t2m", "cape"])
BASE = np.array([20, 290, 1000], np.float32)[:, None, None]
SPREAD = torch.tensor([4.0, 2.0, 200.0])[:, None, None]
"""Standard deviation of residuals."""
SCHEDULE = cosine(50)
FAST = SamplingSettings(steps=6, threads=1, precision="float32")


def make_dataset(path: Path, grid: Grid = Grid(20, 24, 300, 800), *, hours=5, simulated=False, variables=VARIABLES):
    """Make a dataset of hours of smooth weather, all ok."""
    store = Store.create(
        path, DatasetDescription(variables, grid, simulated, 0), np.zeros((2, *grid.shape), np.float32)
    )
    y, x = np.mgrid[: grid.ny, : grid.nx]
    times = START + np.arange(hours) * HOUR
    base = np.array([20, 290, 1000, 280, 1, 1, -50], np.float32)[: len(variables), None, None]
    for k, valid in enumerate(times):
        store.write_hour(valid, (base + 2 * np.sin((x + y + k) / 7)).astype(np.float32))
    store.write_status(times, HourStatus.OK, [{"valid": str(t)} for t in times])
    return Dataset.open(path)


@cache
def white_flow(fields: int, steps: int) -> LinearFlow:
    """Solve the flow once for all forecasters, as each Forecaster does once."""
    return LinearFlow(Spectrum.white(fields), SCHEDULE, SCHEDULE.timesteps(steps).tolist())


class GaussianCondition(SimpleNamespace):
    """Stand-in for convcast.model.Condition, with the reference and the scale of residuals."""

    def for_domain(self, reference, scale):
        return GaussianCondition(**vars(self) | {"reference": reference, "scale": scale})

    def rescaled(self, scale):
        return GaussianCondition(**vars(self) | {"scale": scale})


@dataclass
class GaussianForecaster:
    """Forecaster with residuals from the advected frame that are N(mean, 1) in units of SPREAD, independent by cell."""

    mean: float = 0.5
    border: float = 0.0
    """Error of the noise, per unit of signal, at the border of the network's input, where networks are worst."""
    leads: tuple[int, ...] = (1, 3)
    simulated: bool = False
    spacing: float = SPACING
    sha256: str = "0123"
    analysis_lead: int = 0
    variables: tuple = VARIABLES

    def __post_init__(self):
        self.settings = SimpleNamespace(history=4)
        self.description = SimpleNamespace(
            simulated=self.simulated,
            spacing=self.spacing,
            analysis_lead=self.analysis_lead,
            training_hours=(START, START),
        )
        self.forcing = None
        self.conditions = 0
        self.schedule = SCHEDULE
        self.device = torch.device("cpu")
        self.calls: list[tuple[int, ...]] = []

    def condition(self, windows, *, periodic):
        self.conditions += 1
        reference = torch.from_numpy(np.stack([window.advected for window in windows]))
        return GaussianCondition(kind=(windows[0].lead, None), reference=reference, scale=SPREAD, periodic=periodic)

    def call_bytes(self, cells):
        return 1000 * cells

    def condition_bytes(self, cells):
        return 100 * cells

    def predict_noise(self, x, t, condition, *, guidance=1.0):
        self.calls.append(tuple(x.shape))
        signal, noise = float(self.schedule.signal[t]), float(self.schedule.noise[t])
        edge = torch.zeros(x.shape[-2:])
        edge[[0, 1, -2, -1], :] = edge[:, [0, 1, -2, -1]] = self.border
        return noise * (x - signal * self.mean) + signal * edge

    solve = Forecaster.solve

    def _flow(self, steps, kind):
        return white_flow(len(self.variables), steps)

    def clamp(self, x0, condition):
        low = torch.tensor([v.bounds[0] for v in self.variables])[:, None, None]
        high = torch.tensor([v.bounds[1] for v in self.variables])[:, None, None]
        return (condition.reference + x0 * condition.scale).clamp(low, high).sub(condition.reference) / condition.scale

    def fields(self, x0, condition):
        return (condition.reference + self.clamp(x0, condition) * condition.scale).numpy()


class Still(GaussianForecaster):
    """Forecaster with residuals from the last frame itself, so that no interpolation smooths the previous noise."""

    def condition(self, windows, *, periodic):
        still = [replace(window, motion=np.zeros_like(window.motion)) for window in windows]
        return super().condition(still, periodic=periodic)


def draw_members(dataset: Path, path: Path, members: int, drawn: Connection) -> None:
    """Sample members in a process that may be killed, and report each one that is drawn."""
    from convcast.ensemble import sample

    for done in sample(
        GaussianForecaster(),
        Dataset.open(dataset),
        path,
        init=INIT,
        members=range(members),
        leads=(1, 3),
        settings=FAST,
    ):
        drawn.send(done.member)
