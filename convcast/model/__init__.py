"""The model room: a conditional diffusion model, its training and its samplers. torch starts here."""

from convcast.model.checkpoint import Description
from convcast.model.devices import resolve_precision
from convcast.model.diffusion.schedule import Schedule
from convcast.model.diffusion.solvers import SOLVERS, Clamp, Denoise, Noise, Solver
from convcast.model.distributed import launched, met
from convcast.model.features.condition import Condition
from convcast.model.forecaster import Forecaster
from convcast.model.training.loop import train
from convcast.model.training.progress import TrainingProgress

__all__ = [
    "SOLVERS",
    "Clamp",
    "Condition",
    "Denoise",
    "Description",
    "Forecaster",
    "Noise",
    "Schedule",
    "Solver",
    "TrainingProgress",
    "launched",
    "met",
    "resolve_precision",
    "train",
]
