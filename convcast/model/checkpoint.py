"""Models on disk, as safetensors and JSON files, which cannot run code; each file is written atomically.

models/<name>/model.json              settings, fields, normalisation, reference, data and dates of the model
              model.safetensors       the averaged weights of the best checkpoint so far, which sampling uses
              checkpoints/<step>      weights, averages and optimiser, from which training resumes
              log.jsonl               the progress of the training
              MODEL_CARD.md           a summary for people
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from pydantic import ValidationError

import convcast
from convcast.archive import Forcing
from convcast.errors import TRAIN_ANOTHER, DamagedFileError, SettingsError
from convcast.files import read_json
from convcast.grid import Grid
from convcast.model.features.condition import channel_count, number_count
from convcast.model.features.inputs import Kind
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.residual import Residuals
from convcast.model.network.network import Network
from convcast.model.skill import Validation
from convcast.model.tensors import FORMAT, Shape, digest, read_header, read_tensors
from convcast.notation import Hour
from convcast.settings import ModelSettings, Settings
from convcast.variables import Variable, select

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
CARD = "MODEL_CARD.md"
LONGEST_REASON = 200
"""Maximum length, in characters, of the reason in an error message."""


@dataclass(frozen=True)
class ModelDescription:
    """Everything about a model except its weights."""

    model: ModelSettings
    variables: tuple[Variable, ...]
    residuals: Residuals
    grid: Grid
    """Grid of the training data."""
    spacing: float
    """Grid spacing, metres."""
    simulated: bool
    analysis_lead: int
    training_hours: tuple[Hour, Hour]
    """First and last hour of the training cases."""
    split: dict[str, Any]
    """The training, validation and test hours (convcast.dataset.Split)."""
    settings: dict[str, Any]
    """All settings of the training, as a record."""
    settings_digest: str
    version: str = convcast.__version__
    steps: int = 0
    """Number of optimiser steps after which these weights were saved."""
    minutes: float = 0.0
    """Training time, minutes."""
    validation: Validation | None = None
    """Scores of these weights; None where no hours were left for validation."""
    trained: int = 0
    """Number of optimiser steps of the whole training, which may be more than `steps`, those of the best weights."""
    stale: int = 0
    """Number of validations after that of the best weights, none of which was better."""

    def network(self) -> Network:
        """Create the network with initial weights."""
        return _network(len(self.variables), self.model)

    @property
    def forcing(self) -> Forcing | None:
        """The HRRR forecasts that force the model; None for a model without forcing."""
        return Forcing.of(self.model, self.analysis_lead)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each weight of the network, found without allocating the network."""
        return _shapes(len(self.variables), self.model.model_dump_json())

    @property
    def parameters(self) -> int:
        """Number of weights of the network."""
        return sum(map(math.prod, self.shapes.values()))

    @property
    def origin(self) -> str:
        """Digest of the model settings, data and statistics with which a training starts, without its progress.

        Two trainings with one origin can resume from each other's checkpoints, with other settings of `training`.
        """
        progress = ("version", "steps", "trained", "stale", "minutes", "validation", "settings", "settings_digest")
        start = {name: value for name, value in self.to_dict().items() if name not in progress}
        return hashlib.sha256(json.dumps(start, sort_keys=True, default=str).encode()).hexdigest()

    def under(self, settings: Settings) -> ModelDescription:
        """Return the description of a training that continues with these settings."""
        return replace(self, settings=settings.model_dump(mode="json"), settings_digest=settings.digest())

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": self.version,
            "simulated": self.simulated,
            "fields": [variable.name for variable in self.variables],
            "steps": self.steps,
            "trained": self.trained,
            "stale": self.stale,
            "minutes": round(self.minutes, 2),
            "validation": None if self.validation is None else self.validation.to_dict(),
            "training_hours": [str(hour) for hour in self.training_hours],
            "split": self.split,
            "grid": self.grid.to_dict(),
            "spacing": self.spacing,
            "analysis_lead": self.analysis_lead,
            "model": self.model.model_dump(mode="json"),
            "settings": self.settings,
            "settings_digest": self.settings_digest,
            "normalisation": self.residuals.normalisation.to_dict(),
            "residuals": self.residuals.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelDescription:
        """Restore from the result of `to_dict`; raises ValueError or ConvcastError for damaged values."""
        try:
            variables = select(values["fields"])
            normalisation = Normalisation.from_dict(variables, values["normalisation"])
            first, last = (np.datetime64(text, "h") for text in values["training_hours"])
            description = cls(
                model=ModelSettings.model_validate(values["model"]),
                variables=variables,
                residuals=Residuals.from_dict(normalisation, values["residuals"]),
                grid=Grid.from_dict(values["grid"]),
                spacing=float(values["spacing"]),
                simulated=bool(values["simulated"]),
                analysis_lead=int(values["analysis_lead"]),
                training_hours=(first, last),
                split=values["split"],
                settings=dict(values["settings"]),
                settings_digest=str(values["settings_digest"]),
                version=str(values["version"]),
                steps=int(values["steps"]),
                minutes=float(values["minutes"]),
                validation=None if values["validation"] is None else Validation.from_dict(values["validation"]),
                trained=int(values["trained"]),
                stale=int(values.get("stale", 0)),
            )
            for part in ("training", "validation", "test"):
                int(description.split[part]["hours"])
        except (AttributeError, KeyError, TypeError, OverflowError) as error:
            raise ValueError(repr(error)) from error
        if not required_kinds(description.model.leads, description.forcing) <= set(description.residuals.spread):
            raise ValueError(f"its reference has no statistics of one of the leads {description.model.leads}")
        return description

    def to_json(self) -> bytes:
        """Return the contents of model.json, with one line for each value to keep the file short."""
        lines = [f"  {json.dumps(name)}: {json.dumps(value, default=str)}" for name, value in self.to_dict().items()]
        return ("{\n" + ",\n".join(lines) + "\n}\n").encode()

    @classmethod
    def read(cls, directory: Path) -> ModelDescription:
        """Read the description of the model in `directory`.

        Raises:
            SettingsError: There is no model.
            DamagedFileError: The description is damaged or was not written by convcast.
        """
        path = directory / DESCRIPTION
        if not path.is_file():
            raise SettingsError(
                f"there is no model in {directory}", advice=f"run `convcast train --model {directory.name}`"
            )
        values = read_json(path)
        written = values.get("format") if isinstance(values, dict) else None
        if isinstance(written, str) and written.startswith("convcast model") and written != FORMAT:
            raise DamagedFileError(
                f"{path} was written by another version of convcast ({written})",
                advice=f"run `convcast train --model another` and use it, or delete {directory} and train again",
            )
        if written != FORMAT:
            raise DamagedFileError(f"{path} does not describe a convcast model", advice=TRAIN_ANOTHER)
        try:
            return cls.from_dict(values)
        except (ValueError, SettingsError) as error:
            raise DamagedFileError(f"{path} is damaged ({_reason(error)})", advice=TRAIN_ANOTHER) from error


def _network(fields: int, settings: ModelSettings) -> Network:
    channels = channel_count(fields, settings.history, forced=settings.forced)
    return Network(fields, channels, settings, numbers=number_count(forced=settings.forced))


@lru_cache  # each save describes the network of the same settings
def _shapes(fields: int, settings: str) -> dict[str, Shape]:
    with torch.device("meta"):
        network = _network(fields, ModelSettings.model_validate_json(settings))
    return {name: tuple(weights.shape) for name, weights in network.state_dict().items()}


def required_kinds(leads: Sequence[int], forcing: Forcing | None) -> set[Kind]:
    """Return the kinds of cases to which the reference of a model must be fitted."""
    forced = [] if forcing is None else [(lead, age) for lead in leads for age in forcing.possible_ages(lead)]
    return {*((lead, None) for lead in leads), *forced}


def _reason(error: Exception) -> str:
    """Shorten an error message, which may be as long as the file."""
    reason = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"


def checkpoints(directory: Path) -> list[Path]:
    """List the checkpoints of the model in `directory`, oldest first."""
    return sorted((directory / CHECKPOINTS).glob("*.safetensors"))


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / CHECKPOINTS / f"{step:09d}.safetensors"


def load_network(directory: Path, description: ModelDescription) -> tuple[Network, str]:
    """Load the network in `directory`; return it with the digest of its weights, which is the model's identity.

    Raises:
        DamagedFileError: The weights are missing, damaged or those of another network.
        SettingsError: The network does not fit into memory.
        Both are raised before memory for the network is allocated.
    """
    path = directory / WEIGHTS
    if read_header(path).shapes != description.shapes:
        raise DamagedFileError(f"{path} holds the weights of another network", advice=TRAIN_ANOTHER)
    require_memory(description.parameters)
    network = description.network()
    tensors, _ = read_tensors(path)
    network.load_state_dict(tensors)
    return network, digest(tensors)


def require_memory(parameters: int) -> None:
    """Raise SettingsError if the weights alone exceed the machine's memory."""
    size, memory = 4 * parameters, psutil.virtual_memory().total
    if size > memory:
        raise SettingsError(
            f"a network of {parameters / 1e6:.0f} million parameters takes {size / 1e9:.0f} GB, "
            f"and this machine has {memory / 1e9:.0f} GB",
            advice="run `convcast train --model smaller --set model.base=32`",
        )
