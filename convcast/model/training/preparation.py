"""Preparation of a training: split, statistics, reference forecast and cases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convcast.archive import Forcing
from convcast.dataset import Dataset, FieldStatistics, Split, Windows, split_hours, usable_inits
from convcast.errors import DamagedFileError, MissingInputError, SettingsError
from convcast.grid import SPACING
from convcast.model.checkpoint import ModelDescription
from convcast.model.devices import resolve_precision
from convcast.model.features.correction import fold_of
from convcast.model.features.inputs import Inputs
from convcast.model.features.normalisation import Normalisation
from convcast.model.features.residual import Residuals
from convcast.model.training.batches import IN_MEMORY, Batch, Cases
from convcast.model.training.orientation import Orientation, orientations
from convcast.model.training.validation import Validator
from convcast.notation import HOUR, Hours
from convcast.settings import ModelSettings, Settings, SplitSettings, TrainingSettings

FLOAT = 4
"""Bytes of a float32."""
FITTED_CASES = 400
"""Maximum number of cases, for each lead, to which the regression and the sizes of residuals are fitted."""
CORRECTED_CASES = 1600
"""Maximum number of cases, of all leads, to which the correction is fitted; it has many more weights."""
LOSS_CASES = 32
"""Maximum number of cases of the validation loss."""
LOSS_BATCH = 4
"""Batch size of the validation loss, fixed so that the loss does not depend on the training's batch size."""

CHANGEABLE = {
    "steps",
    "minutes",
    "cache",
    "workers",
    "threads",
    "recompute",
    "compile",
    "shard_above",
    "checkpoint_every",
    "checkpoint_minutes",
    "patience",
    "keep",
    "log_every",
}
"""Settings of `training` that affect the length and speed of a training but not what it learns."""


def describe(dataset: Dataset, settings: Settings) -> ModelDescription:
    """Describe a model before its training: statistics and reference from the training hours of the dataset.

    Raises:
        MissingInputError: There are too few training hours, or too few HRRR forecasts to force the model.
    """
    split = split_hours(dataset.hours, settings.split)
    normalisation = Normalisation.of(dataset, FieldStatistics.from_hours(dataset, split.training))
    # Averages over all patches are fitted, so the patches are drawn uniformly.
    windows = _windows(dataset, split.training, settings, augment=not _whole(dataset, settings))
    fitted = evenly_spaced(len(windows), FITTED_CASES * len(settings.model.leads))
    corrected = evenly_spaced(len(windows), max(CORRECTED_CASES, len(fitted)))
    turns = orientations(settings.training.augmentation)
    _require_forcing(windows, fitted)
    inits = windows.inits
    training_hours = (inits[0] - (settings.model.history - 1) * HOUR, inits[-1] + max(settings.model.leads) * HOUR)

    ages = 0 if windows.forcing is None else len(windows.forcing.ages)
    case_bytes = FLOAT * (2 * settings.model.history + 4 + ages) * len(dataset.variables) * math.prod(windows.shape)
    kept = case_bytes * (len(fitted) + len(corrected)) <= IN_MEMORY

    @lru_cache(maxsize=None if kept else 0)  # since the fit reads the cases four times
    def prepared(number: int, turn: Orientation) -> list[tuple[Inputs, Tensor]]:
        window = turn.apply(windows.forced(number, None), dataset.variables)
        assert window.target is not None
        target = torch.from_numpy(normalisation.standardise(window.target, periodic=windows.periodic))[None]
        folds = (fold_of(window.init, *training_hours),)
        inputs = Inputs.of([window], normalisation, periodic=windows.periodic, names=settings.model.inputs, folds=folds)
        forced = [
            inputs.forced([turn.apply(windows.forced(number, age), dataset.variables)], normalisation)
            for age in windows.ages(number)
        ]
        return [(each, target) for each in (inputs, *forced)]

    def cases(numbers: Sequence[int]) -> Iterator[tuple[Inputs, Tensor]]:
        for index, number in enumerate(numbers):
            # Leads alternate, so the orientation changes after all of them: each lead is fitted in every orientation.
            yield from prepared(number, turns[index // len(settings.model.leads) % len(turns)])

    return ModelDescription(
        model=settings.model,
        variables=dataset.variables,
        residuals=Residuals.fit(
            lambda: cases(fitted),
            normalisation,
            settings.model.reference,
            corrected=lambda: cases(corrected),
            half=resolve_precision(settings.training.precision, torch.device("cpu")) == "bfloat16",
        ),
        grid=dataset.grid,
        spacing=SPACING,
        simulated=dataset.simulated,
        analysis_lead=dataset.analysis_lead,
        training_hours=training_hours,
        split=split.to_dict(),
        settings=settings.model_dump(mode="json"),
        settings_digest=settings.digest(),
    )


def require_same(
    model: ModelDescription, dataset: Dataset, settings: Settings, directory: Path, *, strict: bool = False
) -> None:
    """Check that the model in `directory` is the one that these settings and this dataset start.

    A training can resume with another learning rate and the like, but not with `strict`: then only CHANGEABLE settings
    may differ.

    Raises:
        SettingsError: The settings differ.
        DamagedFileError: The data differ.
    """
    before = model.settings | {"model": model.model.model_dump(mode="json")}
    training = {name for name in TrainingSettings.model_fields if name not in CHANGEABLE} if strict else {"seed"}
    compared = {
        "model": set(ModelSettings.model_fields),
        "split": set(SplitSettings.model_fields),
        "training": training,
    }
    now = settings.model_dump(mode="json")
    for group, names in compared.items():
        recorded: Any = before.get(group)
        for name, value in now[group].items() if isinstance(recorded, dict) else ():
            was = recorded.get(name, value)  # a setting may be newer than the model
            if name in names and was != value:
                raise SettingsError(
                    f"the model in {directory} was begun with {group}.{name} = {was!r}, not {value!r}",
                    advice=f"run `convcast train --model another --set {group}.{name}={value}`, or the same "
                    f"command with --set {group}.{name}={was}",
                )
    ours = (dataset.variables, dataset.grid, dataset.simulated, dataset.analysis_lead)
    if ours != (model.variables, model.grid, model.simulated, model.analysis_lead):
        raise DamagedFileError(
            f"the model in {directory} was begun on other fields, another grid or another world than {dataset.path}",
            advice="train under another name (--model)",
        )


def cases(dataset: Dataset, description: ModelDescription, settings: Settings) -> tuple[Cases, Validator]:
    """Return the training cases and the validation cases, the latter empty if no hours are left for them.

    Args:
        dataset: The dataset.
        description: The model, whose split is applied to the dataset's hours.
        settings: Settings of the run.

    Raises:
        SettingsError: Patches that are not square cannot be turned, patches over echoes are drawn without REFC, or
            there are no initial times.
        DamagedFileError: A file of the dataset is damaged or lost.
        DiskFullError: The dataset's cache does not fit on the disk.
    """
    split = Split.from_dict(description.split, dataset.hours)
    residuals, seed = description.residuals, settings.training.seed
    whole = _whole(dataset, settings)
    windows = _windows(
        dataset,
        split.training,
        settings,
        augment=not whole,
        convective=settings.training.convective,
        stored=True,
    )
    if settings.training.augmentation == "rotations" and windows.shape[0] != windows.shape[1]:
        raise SettingsError(
            f"patches of {windows.shape[0]} x {windows.shape[1]} cells cannot be turned by quarters",
            advice="run `convcast train --set training.augmentation=flips`",
        )
    training = Cases(
        windows,
        residuals,
        inputs=settings.model.inputs,
        roll=whole,
        orientations=orientations(settings.training.augmentation),
        withheld=settings.model.forcing_dropout,
        fitted=description.training_hours,
        seed=seed,
    )
    inits = usable_inits(split.validation, history=settings.model.history, leads=settings.model.leads)
    members = settings.training.validation_members
    if len(inits) == 0:
        return training, Validator([], None, [], members)
    validation = _windows(dataset, split.validation, settings, augment=False)
    checked = Cases(validation, residuals, inputs=settings.model.inputs, roll=False, seed=seed)
    numbers = evenly_spaced(len(checked), LOSS_CASES)
    groups = [numbers[i : i + LOSS_BATCH] for i in range(0, len(numbers), LOSS_BATCH)]
    batches = [Batch.joined([checked[number] for number in group]) for group in groups]
    return training, Validator(
        batches, validation, evenly_spaced(len(checked), settings.training.validation_cases), members
    )


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced numbers from 0 to `count` - 1."""
    return [int(number) for number in np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))]


def _whole(dataset: Dataset, settings: Settings) -> bool:
    """Whether a patch is the whole domain."""
    return settings.training.patch >= max(dataset.grid.shape)


def _windows(
    dataset: Dataset,
    hours: Hours,
    settings: Settings,
    *,
    augment: bool,
    convective: float = 0.0,
    stored: bool = False,
) -> Windows:
    model = settings.model
    return Windows(
        dataset,
        usable_inits(hours, history=model.history, leads=model.leads),
        leads=model.leads,
        history=model.history,
        patch=settings.training.patch,
        seed=settings.training.seed,
        augment=augment,
        convective=convective,
        forcing=Forcing.of(settings.model, settings.dataset.analysis_lead),
        stored=stored,
    )


def _require_forcing(windows: Windows, numbers: Sequence[int]) -> None:
    """Raise MissingInputError if none of these cases has the forcing of some lead and age."""
    if windows.forcing is None:
        return
    found = {(windows.lead(number), age) for number in numbers for age in windows.ages(number)}
    wanted = [(lead, age) for lead in windows.leads for age in windows.forcing.possible_ages(lead)]
    for lead, age in wanted:
        if (lead, age) not in found:
            raise MissingInputError(
                f"the training hours have no HRRR forecast of age {age} h for a lead of {lead} h",
                advice="run `convcast fetch` and `convcast preprocess` with these settings, or "
                "`convcast train --set model.forcing=none`",
            )
