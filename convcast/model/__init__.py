"""The conditional diffusion model, its training and its solvers; lower packages do not import torch."""

from convcast.model.checkpoint import ModelDescription
from convcast.model.devices import resolve_precision
from convcast.model.diffusion.schedule import Schedule
from convcast.model.diffusion.solvers import SOLVERS, Clamp, Denoise, Noise, Solver
from convcast.model.distributed import rank_and_world_size, sum_over_processes
from convcast.model.features.condition import Condition
from convcast.model.forecaster import Forecaster
from convcast.model.training.loop import train
from convcast.model.training.progress import TrainingProgress

__all__ = [
    "SOLVERS",
    "Clamp",
    "Condition",
    "Denoise",
    "Forecaster",
    "ModelDescription",
    "Noise",
    "Schedule",
    "Solver",
    "TrainingProgress",
    "rank_and_world_size",
    "resolve_precision",
    "sum_over_processes",
    "train",
]
