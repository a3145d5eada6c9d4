"""The training loop.

Training resumes exactly: the order of the cases follows from the seed, and every random number of a step from seed and
step. A run that resumes from its last checkpoint reaches the weights of an uninterrupted run, as long as its length is
given in steps and not in minutes. Files that an interrupted save did not write are written first. Under torchrun all
processes run this loop, each with its share of the cases, and the first one writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch

from convcast.dataset import Dataset, shuffled_indices
from convcast.errors import SettingsError
from convcast.files import sweep
from convcast.model.checkpoint import DESCRIPTION
from convcast.model.distributed import Distributed, process_group
from convcast.model.training import preparation
from convcast.model.training.batches import batches
from convcast.model.training.records.progress import Tally, TrainingProgress
from convcast.model.training.records.saving import newest
from convcast.model.training.records.tensorboard import TrainingLog
from convcast.model.training.trainer import Trainer
from convcast.settings import Settings, TrainingSettings

DIVERGED = 10.0
"""Mean loss since the last report above which training has diverged; an untrained network has 1."""


def train(dataset: Dataset, directory: Path, settings: Settings) -> Iterator[TrainingProgress]:
    """Train a model in `directory`, or resume its training. Sets the number of torch's threads for this process.

    Args:
        dataset: The hours to train on.
        directory: The folder of the model.
        settings: All settings. `training.steps` and `training.minutes` are counted from the first start of the model;
            the learning rate reaches zero at the end.

    Yields:
        A report of the first step and every `training.log_every` steps; none if the model is already trained that far.

    Raises:
        MissingInputError: The dataset is too short.
        SettingsError: The model in `directory` has other settings, or the loss diverges.
        DamagedFileError: The model in `directory` is damaged or was trained on other data.
    """
    torch.set_num_threads(settings.training.threads)
    torch.set_flush_denormal(True)  # denormal numbers of weights that decay would slow the arithmetic down
    with process_group() as distributed:
        yield from _train(dataset, directory, settings, distributed)


def _train(
    dataset: Dataset, directory: Path, settings: Settings, distributed: Distributed
) -> Iterator[TrainingProgress]:
    if distributed.first:
        sweep(directory)
    resumed = newest(directory)
    if resumed is None:
        description = preparation.describe(dataset, settings)
    else:
        description = resumed[1].description
        begun = (directory / DESCRIPTION).is_file()
        preparation.require_same(description, dataset, settings, directory, strict=not begun)
    trainer = Trainer(description, settings.training, distributed)
    if resumed is not None:
        trainer.restore(*resumed)
    if distributed.broadcast(trainer.step) != trainer.step:
        raise SettingsError(
            f"this process finds {directory} after step {trainer.step}, and the first process finds it after another",
            advice="put the workspace on a file system that all processes share",
        )
    tally, last = (Tally(), None) if resumed is None else (resumed[1].tally, resumed[1].report)
    log = TrainingLog(directory, trainer.step, last) if distributed.first else None
    before = trainer.description.minutes
    steps, limit = settings.training.steps, settings.training.minutes
    if resumed is not None and (trainer.step >= steps or (limit and before >= limit) or trainer.exhausted):
        return
    trainer.description = trainer.description.under(settings)
    cases, validator = preparation.cases(dataset, description, settings)
    started = time.monotonic()  # preparation does not count as time of training

    def minutes() -> float:
        return before + (time.monotonic() - started) / 60

    def fraction() -> float:
        by_steps = trainer.step / steps
        return min(1.0, max(by_steps, distributed.broadcast(minutes() / limit)) if limit else by_steps)

    def stop(what: str, step: int) -> SettingsError:
        return SettingsError(
            f"the loss {what} after step {step}; the last good checkpoint in {directory} is of step {saved}",
            advice=f"run `convcast train --model {directory.name} --set training.learning_rate="
            f"{settings.training.learning_rate / 3:.2g}`, which goes on from that checkpoint",
        )

    each = settings.training.batch * settings.training.accumulation
    dealt = shuffled_indices(
        len(cases), seed=settings.training.seed, rank=distributed.rank, world_size=distributed.world_size
    )
    order = islice(dealt, trainer.step * each, None)
    prepared = batches(
        cases, order, settings.training.batch, workers=settings.training.workers, device=distributed.device
    )
    saved, kept, done = trainer.step, minutes(), fraction()
    while done < 1:
        rate = learning_rate(settings.training, trainer.step, done)
        began = time.monotonic()
        parts = [next(prepared) for _ in range(settings.training.accumulation)]
        tally.waited += time.monotonic() - began
        trainer.learn(parts, rate, tally)
        done, score = fraction(), None
        judging = done >= 1 or trainer.step % settings.training.checkpoint_every == 0
        # The first step is reported too, to show that training has begun, and how fast.
        due = done >= 1 or trainer.step == 1 or trainer.step % settings.training.log_every == 0
        if (judging or due) and (sound := trainer.sound_step) < trainer.step:
            raise stop("is not finite", sound)
        # The processes agree on the time only at reports; at each step the GPUs would have to wait.
        saving = judging or (due and distributed.broadcast(minutes() - kept) >= settings.training.checkpoint_minutes)
        if saving and tally.loss > DIVERGED:
            raise stop(f"has grown to {tally.loss:.1f}", trainer.step)
        if judging:
            score = trainer.validate(validator)
            if trainer.would_exhaust(score):
                done = 1.0
        report = None
        if due:
            report = TrainingProgress(
                **tally.means([variable.name for variable in description.variables], distributed.world_size),
                step=trainer.step,
                steps=steps,
                fraction=done,
                minutes=minutes(),
                validation=score,
                learning_rate=rate,
                finished=done >= 1,
            )
            tally = Tally()
        if saving:
            trainer.save(directory, minutes(), score, report=report, tally=tally, judged=judging)
            saved, kept = trainer.step, minutes()
        if report is not None:
            if log is not None:
                log.write(report)
            yield report
            if report.loss > DIVERGED:
                raise stop(f"has grown to {report.loss:.1f}", trainer.step)


def learning_rate(settings: TrainingSettings, step: int, fraction: float) -> float:
    """Return the rate: linear warm-up, then half a cosine to zero over the training (Loshchilov & Hutter 2017).

    Args:
        settings: Settings of the training.
        step: Number of steps before this one.
        fraction: Share of the training that is done, 0 to 1.
    """
    warm_up = min(1.0, (step + 1) / settings.warm_up)
    return settings.learning_rate * warm_up * (0.5 + 0.5 * math.cos(math.pi * fraction))
