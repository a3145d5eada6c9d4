"""A network in training: one optimiser step, its validation, and what must be saved to go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from convcast.errors import DamagedFileError
from convcast.model.averaging import Average
from convcast.model.cases import Batch
from convcast.model.checkpoint import TRAINING, WEIGHTS, Description, read_tensors, write_tensors
from convcast.model.devices import resolve_precision
from convcast.model.diffusion import Diffusion, Losses, stratified_steps
from convcast.model.network import Network
from convcast.model.progress import Tally
from convcast.settings import TrainingSettings

BETAS = (0.9, 0.99)
VALIDATION = 1 << 32
"""Stands in for the step in the seed of the noise that validation adds: the same each time."""


@dataclass(frozen=True)
class Task:
    """Cases and what was drawn for them: noise levels, noise, and whether the condition is withheld (a draw a row)."""

    batch: Batch
    t: Tensor
    noise: Tensor
    blank: Tensor

    def divided(self, parts: int) -> list[Task]:
        """In order; `parts` divides the number of cases."""
        divided = zip(*(value.chunk(parts) for value in (self.t, self.noise, self.blank)), strict=True)
        return [Task(batch, *drawn) for batch, drawn in zip(self.batch.divided(parts), divided, strict=True)]


class Trainer:
    """Weights, their average and the optimiser; `step` counts the optimiser steps behind them.

    On a CPU a batch is divided among threads, which share the weights and compute a gradient each. Threads within each
    operation would wait for one another thousands of times a step: 59 samples a second, measured, in place of 67.
    """

    def __init__(self, description: Description, settings: TrainingSettings, device: torch.device) -> None:
        precision = resolve_precision(settings.precision, device)
        self.description, self.device = description, device
        self.settings = settings.model_copy(update={"precision": precision})
        self.step = 0
        self.minutes = 0.0
        torch.manual_seed(settings.seed)
        self.network = description.network().to(device)
        self.average = Average(self.network, settings.ema)
        self.diffusion = Diffusion(description.model, device)
        weights = torch.tensor(
            [settings.weights.get(v.name, v.loss_weight) for v in description.variables], device=device
        )
        self._weights = weights / weights.mean()
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        kept = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)
        # Dropout draws from one generator, and the order in which threads came to it would not be the same again.
        divisible = device.type == "cpu" and description.model.dropout == 0
        self._parts = math.gcd(settings.threads, settings.batch) if divisible else 1
        self._pool = ThreadPoolExecutor(self._parts, initializer=torch.set_num_threads, initargs=(1,))

    def learn(self, batches: Sequence[Batch], rate: float, tally: Tally) -> float:
        """One optimiser step; returns the norm of the gradient, which is not finite where the loss is not."""
        self.network.train()
        self._seed(self.step)
        for batch in batches:
            tasks = self._draw(batch, self.description.model.condition_dropout).divided(self._parts)
            share = 1 / (len(batches) * len(tasks))
            run = map if len(tasks) == 1 else self._pool.map
            for task, (losses, gradient) in zip(tasks, run(self._gradient, tasks), strict=True):
                for parameter, part in zip(self.network.parameters(), gradient, strict=True):
                    parameter.grad = share * part if parameter.grad is None else parameter.grad.add_(part, alpha=share)
                tally.add(losses, self.diffusion.level[task.t])
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip))
        if math.isfinite(norm):
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self.average.update(self.network, self.step)
            self.step += 1
        self.optimiser.zero_grad()
        tally.steps += 1
        tally.gradient += norm
        return norm

    @torch.no_grad()
    def validate(self, batches: Sequence[Batch]) -> float | None:
        """Mean loss of the averaged weights, with the same noise each time; None without any batches."""
        network = self.description.network().to(self.device)
        network.eval()
        network.load_state_dict(self.average.weights)
        self._seed(VALIDATION)
        tasks = [self._draw(batch.to(self.device), condition_dropout=0.0) for batch in batches]
        scores = [self._losses(task, network).noise.mean() for task in tasks]
        return float(torch.stack(scores).mean()) if scores else None

    def save(self, directory: Path, minutes: float, validation: float | None) -> None:
        """The description last: a model without one is none, and one that is there has weights at least as new."""
        self.minutes = minutes
        self.description = self.description.after(steps=self.step, minutes=minutes, validation=validation)
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.weights.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in state.items()}
        write_tensors(directory / TRAINING, tensors, {"step": self.step, "minutes": minutes})
        write_tensors(directory / WEIGHTS, self.average.weights, {"step": self.step})
        self.description.write(directory)

    def restore(self, directory: Path) -> None:
        """Raises DamagedFileError where the saved state is not of this network."""
        path = directory / TRAINING
        tensors, facts = read_tensors(path)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        state: dict[int, dict[str, Tensor]] = {}
        try:
            for name, value in tensors.items():
                part, rest = name.split(".", 1)
                parts[part][rest] = value
            for name, value in parts["optimiser"].items():
                index, rest = name.split(".", 1)
                state.setdefault(int(index), {})[rest] = value
            self.network.load_state_dict(parts["network"])
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
            for name, value in self.average.weights.items():
                value.copy_(parts["average"][name])
            self.step, self.minutes = int(facts["step"]), float(facts["minutes"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise DamagedFileError(f"{path} is not of this model ({error})", advice="train again") from error

    def _draw(self, batch: Batch, condition_dropout: float) -> Task:
        shape = batch.departures.shape
        rows = shape[0] * self.settings.draws
        t = stratified_steps(rows, self.diffusion.schedule.steps).to(self.device)
        noise = torch.randn(rows, *shape[1:], device=self.device)
        return Task(batch, t, noise, torch.rand(rows, 1, 1, 1, device=self.device) < condition_dropout)

    def _losses(self, task: Task, network: Network) -> Losses:
        batch, periodic = task.batch, self.description.grid.periodic
        half = self.settings.precision == "bfloat16"
        channels = batch.channels if half else batch.channels.float()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            encoded = network.encode(channels, batch.numbers, periodic=periodic)
            return self.diffusion.losses(
                network, batch.departures, task.noise, task.t, encoded, task.blank, periodic=periodic
            )

    def _gradient(self, task: Task) -> tuple[Losses, tuple[Tensor, ...]]:
        losses = self._losses(task, self.network)
        by_field = losses.noise.mean(dim=0) + losses.mean.mean(dim=0) + losses.scale.mean(dim=0)
        gradient = torch.autograd.grad((by_field * self._weights).mean(), list(self.network.parameters()))
        return losses, gradient

    def _seed(self, step: int) -> None:
        """All random numbers of a step follow from the seed and the step alone."""
        state = np.random.SeedSequence([self.settings.seed, step]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state) >> 1)
