"""`convcast train`: train the diffusion model on the dataset."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from convcast.cli.common.console import duration
from convcast.cli.common.session import Command, ModelOption, verb

if TYPE_CHECKING:
    from convcast.model import TrainingProgress

NOTABLE_WAITING = 0.1
"""Fraction of the time spent waiting for cases from which on progress reports it."""


@verb()
def train(
    command: Command,
    phase: Annotated[
        int | None, typer.Option("--phase", min=1, max=2, help="1: 33 M parameters, 14 days. 2: a year, a cluster.")
    ] = None,
    model: ModelOption = None,
    max_steps: Annotated[int | None, typer.Option("--max-steps", min=1, help="Stop after this many steps.")] = None,
    max_minutes: Annotated[float | None, typer.Option("--max-minutes", min=0.01, help="Stop after this time.")] = None,
) -> None:
    """Train the model, or continue a training that was stopped.

    The schedule ends at --max-steps or --max-minutes, if given. Weights, settings and statistics go to
    models/<name>/ with a model card; `convcast status` draws the loss. On several GPUs:
    torchrun --nproc-per-node 4 -m convcast train --phase 1
    """
    from convcast.dataset import Dataset
    from convcast.files import lock
    from convcast.model import ModelDescription, rank_and_world_size, train as train_steps
    from convcast.model.checkpoint import LOG
    from convcast.model.devices import resolve
    from convcast.model.network.compilation import missed

    rank, _ = rank_and_world_size()
    first = rank == 0
    terminal = command.terminal
    terminal.quiet |= not first
    flags = {"training": {"minutes": max_minutes, "steps": max_steps}}
    workspace, settings = command.open(flags, preset=f"phase{phase}" if phase else None)
    name = model or settings.preset
    directory = workspace.model(name)
    lacks = missed(settings.training.compile, resolve())
    if lacks is not None:
        terminal.say(f"{name}: trains without torch.compile: {lacks}")
    dataset = Dataset.open(workspace.dataset, cache=workspace.cache if settings.training.cache else None)
    with lock(workspace.lock(f"train-{name}"), f"training {name}") if first else nullcontext():
        last = None
        if not (directory / LOG).is_file():
            terminal.say(f"{name}: fitting the reference forecast, which takes a few minutes before the first step")
        for progress in terminal.track(
            train_steps(dataset, directory, settings),
            total=None,
            title="train",
            line=_describe,
            percent=lambda p: 100 * p.fraction,
        ):
            last = progress
    if not first:
        return
    if last is None:
        terminal.say(f"{name} has finished its training already")
    else:
        workspace.record("train", model=name, step=last.step, loss=last.loss)
    description = ModelDescription.read(directory)
    value = {
        "model": name,
        "directory": str(directory),
        "finished": last is None or last.finished,
        "parameters": description.parameters,
        "steps": description.trained,
        "best_step": description.steps,
        "loss": last.loss if last else None,
        "validation": description.validation.to_dict() if description.validation else None,
    }
    if description.stale and description.stale >= settings.training.patience > 0:
        terminal.say(
            f"training ended early: the last {description.stale} validations were no better than that of step "
            f"{description.steps}"
        )
    size = f"{description.parameters / 1e6:.1f} M parameters, {description.trained} steps"
    terminal.result(value, f"{directory}: {size}; see MODEL_CARD.md")


def _describe(progress: TrainingProgress) -> str:
    left = duration(60 * progress.minutes * (1 - progress.fraction) / max(progress.fraction, 1e-9))
    parts = [f"step {progress.step}, loss {progress.loss:.3f}"]
    if progress.validation is not None:
        parts.append(f"validation loss {progress.validation.loss:.3f}")
        if progress.validation.fields:
            parts.append(f"CRPS {progress.validation.crps_ratio:.2f} of persistence's error")
            parts.append(f"criterion {progress.validation.score:.3f}")
    parts.append(f"{progress.samples_per_second:.0f} samples/s")
    if progress.waiting > NOTABLE_WAITING:
        parts.append(f"{progress.waiting:.0%} of the time waiting for cases")
    return ", ".join([*parts, f"{left} left"])
