"""The conditional diffusion model, its training and its solvers; lower packages do not import torch."""

from convcast.model.checkpoint import ModelDescription
from convcast.model.devices import resolve_precision
from convcast.model.diffusion.solvers import SOLVERS
from convcast.model.distributed import rank_and_world_size, sum_over_processes
from convcast.model.features.condition import Condition
from convcast.model.forecaster import Forecaster
from convcast.model.training.loop import train
from convcast.model.training.records.progress import TrainingProgress

__all__ = [
    "SOLVERS",
    "Condition",
    "Forecaster",
    "ModelDescription",
    "TrainingProgress",
    "rank_and_world_size",
    "resolve_precision",
    "sum_over_processes",
    "train",
]
