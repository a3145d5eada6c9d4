"""A model on disk: safetensors and JSON, each file whole or absent, and none of them able to run code.

models/<name>/model.json              what the model is: settings, fields, normalisation, reference, data, dates
              model.safetensors       the averaged weights that are sampled from, of the best checkpoint so far
              checkpoints/<step>      weights, averages and optimiser, to go on from
              log.jsonl               the training's course
              MODEL_CARD.md           all of it for people
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

import convcast
from convcast.errors import DamagedFileError, SettingsError
from convcast.files import read_json, write_bytes, write_json
from convcast.grid import Grid
from convcast.model.condition import channel_count
from convcast.model.departure import Departures
from convcast.model.network import Network
from convcast.model.normalisation import Normalisation
from convcast.model.skill import Validation
from convcast.notation import Hour
from convcast.settings import ModelSettings, Settings
from convcast.variables import Variable, select

DESCRIPTION = "model.json"
WEIGHTS = "model.safetensors"
CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
CARD = "MODEL_CARD.md"
FORMAT = "convcast model 2"


@dataclass(frozen=True)
class Description:
    """All of a model but its weights."""

    model: ModelSettings
    variables: tuple[Variable, ...]
    departures: Departures
    grid: Grid
    """That the training data lie on."""
    spacing: float
    """Metres between points."""
    simulated: bool
    analysis_lead: int
    training_hours: tuple[Hour, Hour]
    """The first and the last that a training case touches."""
    split: dict[str, Any]
    """The training, validation and test hours (convcast.dataset.Split)."""
    settings: dict[str, Any]
    """All settings in force, for the record."""
    settings_digest: str
    version: str = convcast.__version__
    steps: int = 0
    """Optimiser steps behind the weights."""
    minutes: float = 0.0
    """Time they took."""
    validation: Validation | None = None
    """Of these weights; None where no hours were left for it."""
    trained: int = 0
    """Optimiser steps of the training, which may have gone on beyond its best weights."""

    def network(self) -> Network:
        """The network that this describes, with fresh weights."""
        fields = len(self.variables)
        return Network(fields, channel_count(fields, self.model.history), self.model)

    @property
    def parameters(self) -> int:
        """How many weights the network has."""
        with torch.device("meta"):
            return sum(weights.numel() for weights in self.network().parameters())

    def after(self, *, trained: int, minutes: float) -> Description:
        return replace(self, trained=trained, minutes=minutes)

    def with_weights(self, *, steps: int, validation: Validation | None) -> Description:
        return replace(self, steps=steps, validation=validation)

    def write(self, directory: Path) -> None:
        write_json(
            directory / DESCRIPTION,
            {
                "format": FORMAT,
                "version": self.version,
                "simulated": self.simulated,
                "fields": [variable.name for variable in self.variables],
                "steps": self.steps,
                "trained": self.trained,
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
                "normalisation": self.departures.normalisation.to_dict(),
                "departures": self.departures.to_dict(),
            },
        )

    @classmethod
    def read(cls, directory: Path) -> Description:
        """Raises SettingsError where there is no model, DamagedFileError where it is damaged or not ours."""
        path = directory / DESCRIPTION
        if not path.is_file():
            raise SettingsError(f"there is no model in {directory}", advice="train one first: convcast train")
        values = read_json(path)
        found = values.get("format") if isinstance(values, dict) else None
        if isinstance(found, str) and found.startswith("convcast model") and found != FORMAT:
            raise DamagedFileError(
                f"{path} is of another version of convcast ({found})",
                advice=f"delete {directory} and train again, or train under another name (--model)",
            )
        if found != FORMAT:
            raise DamagedFileError(f"{path} does not describe a convcast model", advice="train again")
        try:
            variables = select(values["fields"])
            normalisation = Normalisation.from_dict(variables, values["normalisation"])
            first, last = (np.datetime64(text, "h") for text in values["training_hours"])
            return cls(
                model=ModelSettings.model_validate(values["model"]),
                variables=variables,
                departures=Departures.from_dict(normalisation, values["departures"]),
                grid=Grid.from_dict(values["grid"]),
                spacing=float(values["spacing"]),
                simulated=bool(values["simulated"]),
                analysis_lead=int(values["analysis_lead"]),
                training_hours=(first, last),
                split=values["split"],
                settings=values["settings"],
                settings_digest=values["settings_digest"],
                version=values["version"],
                steps=int(values["steps"]),
                minutes=float(values["minutes"]),
                validation=None if values["validation"] is None else Validation.from_dict(values["validation"]),
                trained=int(values["trained"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, SettingsError) as error:
            raise DamagedFileError(f"{path} is damaged ({error!r})", advice="train again") from error


def checkpoints(directory: Path) -> list[Path]:
    """Of the model in `directory`, oldest first."""
    return sorted((directory / CHECKPOINTS).glob("*.safetensors"))


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / CHECKPOINTS / f"{step:09d}.safetensors"


def describe_settings(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """A safetensors file with `facts` as JSON in its header, whole or not at all."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, {"format": FORMAT, "facts": json.dumps(facts)}))


def read_tensors(path: Path, *, advice: str = "train again") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts. Raises DamagedFileError where the file is damaged or not ours."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        if header.get("format") != FORMAT:
            raise DamagedFileError(f"{path} was not written by convcast", advice=advice)
        return load_file(path), json.loads(header["facts"])
    except (OSError, safetensors.SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DamagedFileError(f"{path} is missing or damaged ({error})", advice=advice) from error


def read_weights(directory: Path, network: Network) -> None:
    """The weights in `directory` into `network`; raises DamagedFileError where they are not of its shape."""
    path = directory / WEIGHTS
    tensors, _ = read_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DamagedFileError(f"{path} holds the weights of another network", advice="train again") from error
