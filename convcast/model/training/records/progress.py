"""Progress reports of a training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from convcast.model.diffusion.noise_prediction import Losses
from convcast.model.skill import Validation

LEVELS = 5
"""Number of equal parts of the noise levels for which the loss is reported."""
SUMS = ("noise", "guess", "by_level", "in_level")


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training since its last report.

    Losses are those of the noise prediction on the cases of this process; an untrained network has 1.
    """

    step: int
    steps: int
    """Step at which training ends, unless its time is up earlier."""
    fraction: float
    """Completed fraction of the training, by steps or by time."""
    minutes: float
    loss: float
    fields: dict[str, float]
    """Loss of each field."""
    levels: tuple[float, ...]
    """Loss in each fifth of the noise levels, from little noise to much."""
    guess: float
    """Squared error of the encoder's guess of the residual."""
    validation: Validation | None
    """Scores of the averaged weights, if a checkpoint was just written."""
    learning_rate: float
    gradient: float
    """Mean norm of the gradient before clipping."""
    samples_per_second: float
    finished: bool
    waiting: float = 0.0
    """Fraction of the time that this process waited for cases: more `training.workers` or the cache lower it."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingProgress:
        """Restore from the result of `dataclasses.asdict`; raises ValueError for damaged values."""
        return _PROGRESS.validate_python(dict(values))


_PROGRESS = TypeAdapter(TrainingProgress)


@dataclass
class Tally:
    """Sums since the last report. They stay on the device, since reading one would wait for all steps before it."""

    steps: int = 0
    samples: int = 0
    gradient: Tensor | float = 0.0
    noise: Tensor | float = 0.0
    guess: Tensor | float = 0.0
    by_level: Tensor = field(default_factory=lambda: torch.zeros(LEVELS))
    in_level: Tensor = field(default_factory=lambda: torch.zeros(LEVELS))
    waited: float = 0.0
    """Seconds spent waiting for batches."""
    since: float = field(default_factory=time.monotonic)

    def add(self, losses: Losses, level: Tensor) -> None:
        """Add the losses of rows with noise levels `level` (row,), between 0 and 1."""
        noise = losses.noise.detach().float()
        if self.by_level.device != noise.device:
            self._move(noise.device)
        self.samples += len(noise)
        self.noise = self.noise + noise.sum(dim=0)
        self.guess = self.guess + losses.mean.detach().float().mean() * len(noise)
        part = (level * LEVELS).long().clamp(max=LEVELS - 1)
        self.by_level.index_add_(0, part, noise.mean(dim=1))
        self.in_level.index_add_(0, part, torch.ones_like(level))

    def _move(self, device: torch.device) -> None:
        for name in SUMS:
            setattr(self, name, torch.as_tensor(getattr(self, name)).to(device))

    @property
    def loss(self) -> float:
        """Mean over the fields."""
        return float(torch.as_tensor(self.noise).mean()) / max(self.samples, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the times, ready for JSON."""
        sums = {name: torch.as_tensor(getattr(self, name)).tolist() for name in SUMS}
        return {"steps": self.steps, "samples": self.samples, "gradient": float(self.gradient), **sums}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tally:
        """Restore from the result of `to_dict`; raises ValueError for damaged values."""
        sums = {name: torch.tensor(values[name], dtype=torch.float32) for name in SUMS}
        if any(sums[name].shape != (LEVELS,) for name in ("by_level", "in_level")):
            raise ValueError("there is not one sum for each part of the noise levels")
        steps, samples, gradient = int(values["steps"]), int(values["samples"]), float(values["gradient"])
        return cls(steps, samples, gradient, sums["noise"], sums["guess"], sums["by_level"], sums["in_level"])

    def means(self, names: list[str], world_size: int) -> dict[str, Any]:
        """Return those fields of TrainingProgress that follow from the sums.

        Args:
            names: Names of the variables.
            world_size: Number of processes that train together.
        """
        fields = torch.as_tensor(self.noise) / max(self.samples, 1)
        seconds = max(time.monotonic() - self.since, 1e-9)
        return {
            "loss": self.loss,
            "fields": dict(zip(names, fields.tolist(), strict=True)),
            "levels": tuple((self.by_level / self.in_level.clamp(min=1)).tolist()),
            "guess": float(self.guess) / max(self.samples, 1),
            "gradient": float(self.gradient) / max(self.steps, 1),
            "samples_per_second": self.samples * world_size / seconds,
            "waiting": self.waited / seconds,
        }
