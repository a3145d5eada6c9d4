"""Saving of a training, and completion of a save that was interrupted.

The checkpoint is written first and holds everything from which the other files are made. A run that was killed between
two files, or stopped by a full disk, loses nothing: the next run first updates the others from the newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convcast.errors import ConvcastError, DamagedFileError
from convcast.files import write_bytes
from convcast.model.checkpoint import (
    CARD,
    DESCRIPTION,
    WEIGHTS,
    ModelDescription,
    checkpoint_path,
    checkpoints,
)
from convcast.model.skill import Validation
from convcast.model.tensors import digest, read_header, read_tensors, write_tensors
from convcast.model.training.records.model_card import card, speed
from convcast.model.training.records.progress import Tally, TrainingProgress

AVERAGE = "average."
"""Prefix of the averaged weights' names in a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint besides its tensors."""

    description: ModelDescription
    """Description at this step, with the step of the best weights and their validation."""
    weights: str
    """Digest of the best weights."""
    validation: Validation | None
    """Scores of this step's averaged weights."""
    report: TrainingProgress | None
    """Report of this step, if one was due."""
    tally: Tally
    """Sums of the first process for the next report."""

    @property
    def step(self) -> int:
        return self.description.trained

    def to_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "minutes": self.description.minutes,  # the description rounds the minutes
            "description": self.description.to_dict(),
            "weights": self.weights,
            "validation": None if self.validation is None else self.validation.to_dict(),
            "report": None if self.report is None else asdict(self.report),
            "tally": self.tally.to_dict(),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Checkpoint:
        """Restore from the result of `to_dict`; raises ValueError or ConvcastError for damaged values."""
        try:
            validation, report, tally = facts["validation"], facts["report"], Tally.from_dict(facts["tally"])
            checkpoint = cls(
                description=replace(ModelDescription.from_dict(facts["description"]), minutes=float(facts["minutes"])),
                weights=str(facts["weights"]),
                validation=None if validation is None else Validation.from_dict(validation),
                report=None if report is None else TrainingProgress.from_dict(report),
                tally=tally,
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(repr(error)) from error
        if torch.as_tensor(tally.noise).numel() not in (1, len(checkpoint.description.variables)):
            raise ValueError("the sums of the loss are not one for each field")
        return checkpoint


def newest(directory: Path) -> tuple[Path, Checkpoint] | None:
    """Read the newest checkpoint of the model in `directory` without its tensors; None before the first save.

    Raises:
        DamagedFileError: The checkpoint is damaged, from an earlier version of convcast or of another training than
            model.json, or the model has no checkpoint.
    """
    paths = checkpoints(directory)
    described = (directory / DESCRIPTION).is_file()
    if not paths:
        if described:
            raise DamagedFileError(
                f"{directory} has no checkpoint to resume from", advice="train under another name (--model)"
            )
        return None
    path, advice = paths[-1], advice_for(directory)
    facts = read_header(path, advice=advice).facts
    if "description" not in facts:
        raise DamagedFileError(
            f"{path} is of an earlier version of convcast and does not say which training it is of",
            advice=f"train under another name (--model), or delete {directory} and train again",
        )
    try:
        checkpoint = Checkpoint.from_dict(facts)
    except (ValueError, ConvcastError) as error:
        raise DamagedFileError(f"{path} is damaged ({error})", advice=advice) from error
    if described and _described(directory, path).origin != checkpoint.description.origin:
        raise DamagedFileError(
            f"{path} is of another training than {directory / DESCRIPTION}: settings or data differ",
            advice=f"delete {path}, and run the same command again",
        )
    return path, checkpoint


def _described(directory: Path, checkpoint: Path) -> ModelDescription:
    try:
        return ModelDescription.read(directory)
    except DamagedFileError as error:
        raise DamagedFileError(
            str(error),
            advice=f"delete {directory / DESCRIPTION}, and the same command writes it again from {checkpoint}",
        ) from error


def advice_for(directory: Path) -> str:
    """Return the advice for a newest checkpoint that cannot be used."""
    *before, path = checkpoints(directory)
    if before:
        return f"delete {path}, and training goes on from the one before"
    return f"train under another name (--model), or delete {directory} and train again"


def save(
    directory: Path, tensors: Mapping[str, Tensor], averages: Mapping[str, Tensor], checkpoint: Checkpoint, *, keep: int
) -> None:
    """Write a checkpoint of `tensors` and the files made from it, and keep only the `keep` latest checkpoints.

    Args:
        directory: The folder of the model.
        tensors: Weights, averaged weights and state of the optimiser, by name.
        averages: The averaged weights, by name.
        checkpoint: Description and scores of the same step.
        keep: Number of checkpoints to keep.
    """
    write_tensors(checkpoint_path(directory, checkpoint.step), tensors, checkpoint.to_dict())
    complete(directory, averages, checkpoint, keep=keep)


def complete(directory: Path, averages: Mapping[str, Tensor], checkpoint: Checkpoint, *, keep: int) -> Checkpoint:
    """Update the files that are older than the newest checkpoint, whose averaged weights are `averages`.

    Returns the checkpoint with the weights now in the model: its own averages replace better weights of an earlier step
    that have been deleted or damaged since.

    Args:
        directory: The folder of the model.
        averages: The averaged weights of the newest checkpoint, by name.
        checkpoint: The newest checkpoint.
        keep: Number of checkpoints to keep.
    """
    if _digest_of(directory / WEIGHTS) != checkpoint.weights:
        best = _best(directory, averages, checkpoint)
        if best is None:
            best = averages
            description = replace(checkpoint.description, steps=checkpoint.step, validation=checkpoint.validation)
            checkpoint = replace(checkpoint, description=description, weights=digest(averages))
        facts = {"step": checkpoint.description.steps, "digest": checkpoint.weights}
        write_tensors(directory / WEIGHTS, best, facts)
    description = checkpoint.description
    _refresh(directory / DESCRIPTION, description.to_json())
    _refresh(directory / CARD, card(directory.name, description, speed(directory, description)).encode())
    for old in checkpoints(directory)[:-keep]:
        old.unlink()
    return checkpoint


def _best(directory: Path, averages: Mapping[str, Tensor], checkpoint: Checkpoint) -> Mapping[str, Tensor] | None:
    """Return the best weights so far; None if no checkpoint has them."""
    steps = checkpoint.description.steps
    if steps == checkpoint.step:
        return averages
    try:
        path = checkpoint_path(directory, steps)
        if {name: shape for name, shape in read_header(path).shapes.items() if name.startswith(AVERAGE)} != {
            f"{AVERAGE}{name}": shape for name, shape in checkpoint.description.shapes.items()
        }:
            return None
        tensors, _ = read_tensors(path)
    except DamagedFileError:
        return None
    best = {name.removeprefix(AVERAGE): value for name, value in tensors.items() if name.startswith(AVERAGE)}
    return best if digest(best) == checkpoint.weights else None


def _digest_of(path: Path) -> str | None:
    """Return the digest recorded with the weights at `path`."""
    try:
        return str(read_header(path).facts.get("digest"))
    except DamagedFileError:
        return None


def _refresh(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
