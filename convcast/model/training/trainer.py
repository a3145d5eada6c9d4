"""A network in training: optimiser steps, validation, and saving and restoring of its state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from convcast.errors import DamagedFileError
from convcast.model.checkpoint import ModelDescription, require_memory
from convcast.model.devices import resolve_precision, send, use_tensor_cores
from convcast.model.diffusion.noise_prediction import Losses, stratified_steps
from convcast.model.distributed import Distributed
from convcast.model.network.compilation import compile_network
from convcast.model.network.network import Network
from convcast.model.skill import Validation
from convcast.model.tensors import digest, read_header, read_tensors
from convcast.model.training.batches import Batch
from convcast.model.training.ema import ExponentialMovingAverage
from convcast.model.training.objective import NoisedBatch, Objective
from convcast.model.training.records.progress import Tally, TrainingProgress
from convcast.model.training.records.saving import AVERAGE, Checkpoint, advice_for, complete, save
from convcast.model.training.sharding import defer_gradient_exchange, fill, parallel, sharded_like, whole
from convcast.model.training.validation import Validator
from convcast.settings import TrainingSettings

BETAS = (0.9, 0.99)
DROPOUT, NOISE, LEVELS = 1, 2, 3
"""Numbers that tell the random draws of a step apart."""
VALIDATION = 1 << 32
"""Step number that seeds the noise of the validation loss, so that it is the same each time."""


class Trainer:
    """Weights, their moving average and the optimiser, after `step` optimiser steps.

    Several processes give the result of one with their batches joined: each row of the joined batch has noise of its
    own seed, and each process draws its rows. A single process on a CPU divides its batch among threads, which share
    the weights and compute one gradient each: measured 67 samples a second, against 59 with threads within each
    operation.
    """

    def __init__(self, description: ModelDescription, settings: TrainingSettings, distributed: Distributed) -> None:
        """Create the network, its moving average and the optimiser, before the first step.

        Args:
            description: The model to train.
            settings: Settings of the training.
            distributed: The processes that train together.

        Raises:
            SettingsError: The network does not fit into memory, or cannot be compiled as the settings require.
        """
        precision = resolve_precision(settings.precision, distributed.device)
        self.description, self.distributed, self.device = description, distributed, distributed.device
        self.settings = settings.model_copy(update={"precision": precision})
        self.step = 0
        self.best = ""
        """Digest of the best weights so far; only the first process has one."""
        require_memory(description.parameters)
        torch.manual_seed(settings.seed)
        use_tensor_cores()
        self.objective = Objective(description, self.settings, self.device)
        shard = description.parameters > settings.shard_above
        self.compiled = compile_network(self.network, settings.compile, self.device)
        """Whether torch.compile has compiled the network."""
        self._module = parallel(self.objective, distributed, shard=shard)
        self.average = ExponentialMovingAverage(self.network, settings.ema)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        kept = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)
        # Dropout draws from one generator, and the order in which threads came to it would not be the same again.
        divisible = self.device.type == "cpu" and distributed.world_size == 1 and description.model.dropout == 0
        self._parts = math.gcd(settings.threads, settings.batch) if divisible else 1
        self._pool = ThreadPoolExecutor(self._parts, initializer=torch.set_num_threads, initargs=(1,))
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)
        self._sound_steps = torch.zeros((), dtype=torch.int64, device=self.device)
        self._start = self.step

    @property
    def network(self) -> Network:
        return self.objective.network

    @property
    def sound_step(self) -> int:
        """The last step up to which all gradients were finite. Reading it waits for the device."""
        return self._start + int(self._sound_steps)

    def learn(self, batches: Sequence[Batch], rate: float, tally: Tally) -> None:
        """Take one optimiser step, without waiting for the device; `sound_step` says whether gradients are finite.

        Args:
            batches: The batches of this process, whose gradients are averaged.
            rate: Learning rate.
            tally: Sums since the last report, to which the step's losses are added.
        """
        self.objective.train()
        for number, batch in enumerate(batches):
            noised = self._draw(batch, self.description.model.condition_dropout, self.step, number)
            self._seed(self.step, number, self.distributed.rank, DROPOUT)  # dropout's masks are each process's own
            later = number + 1 < len(batches)
            for part, losses in self._differentiate(noised, share=1 / len(batches), later=later):
                tally.add(losses, self.objective.diffusion.level[part.t])
        norm = whole(nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)).detach()
        self._sound = self._sound & norm.isfinite()
        self._sound_steps = self._sound_steps + self._sound
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.average.update(self.network, self.step)
        self.step += 1
        self.optimiser.zero_grad()
        tally.steps += 1
        tally.gradient = tally.gradient + norm

    def validate(self, validator: Validator) -> Validation | None:
        """Score the averaged weights; None without cases. Every process must call it and gets the same result."""
        if not validator.batches:
            return None
        objective = Objective(self.description, self.settings, self.device)
        objective.network.load_state_dict({name: whole(value) for name, value in self.average.weights.items()})
        loss = self._validation_loss(validator.batches, objective)
        skill = validator.ensembles(self.description, objective.network, self.distributed, self.settings.precision)
        return Validation(loss, len(validator.numbers), validator.members, *validator.dates, skill)

    @property
    def exhausted(self) -> bool:
        """Whether `training.patience` validations in a row were no better than the best one before them."""
        return 0 < self.settings.patience <= self.description.stale

    def would_exhaust(self, validation: Validation | None) -> bool:
        """Whether saving with this validation makes the training `exhausted`."""
        return not self._better(validation) and 0 < self.settings.patience <= self.description.stale + 1

    def _better(self, validation: Validation | None) -> bool:
        """Whether weights of this validation replace the best so far; they always do where there is none."""
        before = self.description.validation
        return before is None or validation is None or validation.score <= before.score

    def save(
        self,
        directory: Path,
        minutes: float,
        validation: Validation | None,
        *,
        report: TrainingProgress | None,
        tally: Tally,
        judged: bool = True,
    ) -> None:
        """Write a checkpoint and the files made from it, and replace the model's weights if these are better.

        Every process must call it; the first one writes.

        Args:
            directory: The folder of the model.
            minutes: Duration of the training.
            validation: Scores of the averaged weights; None where there are no validation cases.
            report: This step's report, if one was due.
            tally: Sums for the next report.
            judged: Whether this is the time of a validation. Otherwise the best weights stay as they are, and those of
                this step become the model's only until the first validation.
        """
        tensors = {f"network.{name}": whole(value) for name, value in self.network.state_dict().items()}
        averages = {name: whole(value) for name, value in self.average.weights.items()}
        tensors |= {f"{AVERAGE}{name}": value for name, value in averages.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": whole(value) for name, value in state.items()}
        better = judged and self._better(validation)
        stale = 0 if better else self.description.stale + judged
        self.description = replace(self.description, trained=self.step, minutes=minutes, stale=stale)
        if better:
            self.description = replace(self.description, steps=self.step, validation=validation)
        if not self.distributed.first:
            return
        if better:
            self.best = digest(averages)
        checkpoint = Checkpoint(self.description, self.best, validation, report, tally)
        save(directory, tensors, averages, checkpoint, keep=self.settings.keep)

    def restore(self, path: Path, checkpoint: Checkpoint) -> None:
        """Restore the newest checkpoint; the first process updates the files that are older.

        Raises:
            DamagedFileError: The checkpoint is damaged or of another network.
        """
        directory = path.parent.parent
        advice = advice_for(directory)
        tensors = self._read(path, advice)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
        try:
            for name, value in tensors.items():
                part, rest = name.split(".", 1)
                parts[part][rest] = value
            for name, value in self.network.state_dict().items():
                fill(value, parts["network"][name])
            for name, value in self.average.weights.items():
                fill(value, parts["average"][name])
            weights = self._weights
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in parts["optimiser"].items():
                index, rest = name.split(".", 1)
                state.setdefault(int(index), {})[rest] = sharded_like(value, weights[int(index)])
            self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": state})
        except (IndexError, KeyError, ValueError, RuntimeError) as error:
            raise DamagedFileError(f"{path} is not of this model ({error})", advice=advice) from error
        self.step = self._start = checkpoint.step
        if self.distributed.first:
            checkpoint = complete(directory, parts["average"], checkpoint, keep=self.settings.keep)
        self.description, self.best = checkpoint.description, checkpoint.weights

    @property
    def _weights(self) -> list[Tensor]:
        """Weights in the order of the optimiser."""
        return [weights for group in self.optimiser.param_groups for weights in group["params"]]

    def _read(self, path: Path, advice: str) -> dict[str, Tensor]:
        """Read the tensors of a checkpoint after checking that they belong to this network."""
        expected = {
            f"{part}{name}": shape for part in ("network.", AVERAGE) for name, shape in self.description.shapes.items()
        }
        for index, weights in enumerate(self._weights):
            shape = tuple(weights.shape)
            moments = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
            expected |= {f"optimiser.{index}.{name}": size for name, size in moments.items()}
        if not read_header(path, advice=advice).shapes.items() <= expected.items():
            raise DamagedFileError(f"{path} is not of this model: it holds other tensors", advice=advice)
        return read_tensors(path, advice=advice)[0]

    def _draw(self, batch: Batch, condition_dropout: float, *key: int, joined: bool = True) -> NoisedBatch:
        """Draw this process's rows of the joined batch, whose cases were dealt to the processes in turn.

        The draws depend on the seed, the numbers `key` and the row in the joined batch. Unless `joined`, the batch is
        this process's alone.
        """
        rank, world_size = (self.distributed.rank, self.distributed.world_size) if joined else (0, 1)
        draws = self.settings.draws
        rows = len(batch.residuals) * world_size * draws

        own = torch.arange(rows).reshape(-1, draws)[rank::world_size].flatten()
        generator = torch.Generator().manual_seed(self._seed_of(*key, 0, LEVELS))
        t = stratified_steps(rows, self.objective.diffusion.schedule.steps, generator)[own]
        blank = (torch.rand(rows, 1, 1, 1, generator=generator) < condition_dropout)[own]
        seeds = [self._seed_of(*key, row, NOISE) for row in own.tolist()]
        noise = normal_rows(seeds, batch.residuals.shape[1:], self.device)
        return NoisedBatch(batch, send(t, self.device), noise, send(blank, self.device))

    def _differentiate(self, noised: NoisedBatch, *, share: float, later: bool) -> Iterator[tuple[NoisedBatch, Losses]]:
        """Add `share` of the batch's gradient to that of the weights; `later` says that batches follow in this step."""
        if self._parts == 1:
            with defer_gradient_exchange(self._module, until_later=later):
                loss, losses = self._module(noised)
                (share * loss).backward()
            yield noised, losses
            return
        parameters = list(self.network.parameters())

        def gradient(part: NoisedBatch) -> tuple[Losses, tuple[Tensor, ...]]:
            loss, losses = self.objective(part)
            return losses, torch.autograd.grad(loss, parameters)

        parts = noised.divided(self._parts)
        share /= len(parts)
        for part, (losses, gradients) in zip(parts, self._pool.map(gradient, parts), strict=True):
            for parameter, of_part in zip(parameters, gradients, strict=True):
                parameter.grad = (
                    share * of_part if parameter.grad is None else parameter.grad.add_(of_part, alpha=share)
                )
            yield part, losses

    @torch.no_grad()
    def _validation_loss(self, batches: Sequence[Batch], objective: Objective) -> float:
        objective.eval()
        losses = torch.zeros(len(batches), dtype=torch.float64)
        for index in range(self.distributed.rank, len(batches), self.distributed.world_size):
            noised = self._draw(batches[index].to(self.device), 0.0, VALIDATION, index, joined=False)
            losses[index] = objective.losses(noised).noise.mean().double()
        return float(self.distributed.sum(losses).mean())

    def _seed(self, *numbers: int) -> None:
        """Seed torch's own generators, from which dropout draws."""
        torch.manual_seed(self._seed_of(*numbers))

    def _seed_of(self, *numbers: int) -> int:
        """Return a seed that depends on the training's seed and these numbers alone."""
        state = np.random.SeedSequence([self.settings.seed, *numbers]).generate_state(1, np.uint64)[0]
        return int(state) >> 1


def normal_rows(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw standard normal rows (row, *shape) on the device, each from its own seed."""
    rows = torch.empty(len(seeds), *shape, device=device)
    generator = torch.Generator(device)
    for row, seed in zip(rows, seeds, strict=True):
        row.normal_(generator=generator.manual_seed(seed))
    return rows
