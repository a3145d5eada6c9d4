"""Nonlinear correction of the regression: a small convolutional network.

Storms grow where there is CAPE, little CIN and already an echo, which is a product that no linear forecast has, and the
edges of an echo move as it grows. A network sees the regression's predictors of the convective fields within MARGIN
cells (advected, averaged, and their changes), and all fields as the wind moves them. It is fitted to the regression's
errors in about two minutes. A network that forecasts the mean, below a diffusion model of what is left, is also how
CorrDiff divides the task (Mardani et al. 2025, arXiv 2309.15214).

A network errs less in the cases it was fitted to. So there are FOLDS networks, each fitted to the training cases
outside its fold (cross-fitting). In training, the residuals of a case are those from the network that was not fitted
to it, so that they are as large as on a new day. A forecast uses the mean of all networks.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from convcast.model.devices import cpu_threads, send
from convcast.model.features.inputs import Kind, kind_name, parse_kind
from convcast.model.features.regression import BY_WIND, PLACE_AND_TIME
from convcast.notation import HOUR, Hour
from convcast.variables import Variable

HIDDEN = 24
"""Features of the network; 32 take a quarter longer and gain nothing in the mean of the fields."""
BLOCKS = 2
"""Residual blocks of the network, of two convolutions of 3 x 3 cells each."""
MARGIN = 2 * BLOCKS
"""Distance, cells, from which the network sees predictors."""

FOLDS = 4
"""Number of folds of the training cases, and of networks; two networks err 1 % more on REFC."""
MAX_BLOCK = 72.0
"""Maximum length, hours, of the blocks of successive hours that belong to one fold."""
BLOCKS_A_FOLD = 3
"""Minimum number of blocks of a fold, to which blocks are shortened in short training periods."""

PATCH = 40
"""Maximum side, cells, of the patches to which a correction is fitted."""
PATCHES = 4
"""Maximum number of patches of a case, drawn at random."""
PARTS = 3
"""Parts of the training period, each of which must gain from the correction."""

MAX_STEPS = 2400
"""Maximum number of steps of the fit of a network; with half as many, four networks err 1.6 % more on REFC."""
PASSES = 10
"""Number of times that a network sees each patch in more than FEW_STEPS steps."""
FEW_STEPS, MAX_PASSES = 600, 24
"""Number of steps that are taken with few patches too, unless a network would see each more than MAX_PASSES times."""
BATCH = 8
LEARNING_RATE = 3e-3
"""Learning rate of the first and the last convolution and of the biases, by AdamW."""
HIDDEN_RATE = 0.01
"""Learning rate of the convolutions between them, by Muon."""
WARM_UP = 0.1
"""Share of the steps in which the learning rates rise; afterwards they fall to zero."""

Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
"""Weights (output, input, y, x) and bias (output,) of each convolution, of half precision."""

Network = list[tuple[Tensor, Tensor]]
"""Weights and bias of each convolution, as tensors."""


def fold_of(init: Hour, first: Hour, last: Hour) -> int:
    """Return the fold of a training case by its initial time, in a training period from `first` to `last`.

    Args:
        init: Initial time of the case.
        first: First hour of the training period.
        last: Last hour of the training period.

    Returns:
        A number from 0 to FOLDS - 1.
    """
    block = min(MAX_BLOCK, (last - first) / HOUR / (FOLDS * BLOCKS_A_FOLD))
    return int((init - first) / HOUR / max(block, 1.0)) % FOLDS


def selected(predictors: int, variables: Sequence[Variable]) -> list[int]:
    """Return the indices of those of the regression's predictors that the correction sees.

    They are those of the fields with a loss weight above 1, and all fields of the last frame as the wind moves them:
    outflow spreads storms, and cold, dry air ends them. From the ground and the sun, a network would recognise its
    training days.
    """
    indices = []
    for index in range(PLACE_AND_TIME, predictors):
        group, field = divmod(index - PLACE_AND_TIME, len(variables))
        if group == BY_WIND or variables[field].loss_weight > 1:
            indices.append(index)
    return indices


@dataclass(frozen=True)
class Correction:
    """Corrections of the regression of some fields, in standardised units."""

    networks: dict[Kind, tuple[Layers, ...]]
    """Networks by kind of case. Each kind has one for each fold, which was fitted to the other folds; empty for
    none."""

    def predict(
        self, rows: Tensor, kinds: Sequence[Kind], *, periodic: bool, folds: Sequence[int] | None = None
    ) -> Tensor:
        """Predict the corrections (row, field, y, x).

        Args:
            rows: `selected` predictors, (row, predictor, y, x).
            kinds: Kind of each row.
            periodic: Whether the domain is a torus.
            folds: Fold of each training case, for the network that was not fitted to it; None for the mean of all
                networks.
        """
        padded = _padded(rows, periodic=periodic)
        of_rows: Sequence[int | None] = [None] * len(kinds) if folds is None else folds
        corrected = []
        for row, kind, fold in zip(padded, kinds, of_rows, strict=True):
            networks = self.networks[kind]
            chosen = networks if fold is None else (networks[fold],)
            found = [_network(_tensors(layers, row.device), row[None]) for layers in chosen]
            corrected.append(torch.stack(found).mean(dim=0))
        return torch.cat(corrected)

    def to_dict(self) -> dict[str, Any]:
        return {
            kind_name(kind): [[[_encoded(values) for values in layer] for layer in layers] for layers in networks]
            for kind, networks in self.networks.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Correction:
        """Restore from the result of `to_dict`; raises KeyError, TypeError or ValueError for damaged values."""
        return cls(
            {
                parse_kind(name): tuple(
                    tuple((_decoded(weight), _decoded(bias)) for weight, bias in layers) for layers in networks
                )
                for name, networks in values.items()
            }
        )

    def check(self, predictors: Mapping[Kind, int], fields: int) -> None:
        """Raise ValueError if this does not correct `fields` fields from these numbers of predictors by kind."""
        if self.networks.keys() != predictors.keys():
            raise ValueError("the correction is of other kinds of cases than the regression")
        for kind, networks in self.networks.items():
            expected = [(shape, shape[:1]) for shape in _shapes(predictors[kind], fields)]
            if len(networks) != FOLDS:
                raise ValueError(f"the correction at lead {kind_name(kind)} has {len(networks)} networks, not {FOLDS}")
            for layers in networks:
                if [(weight.shape, bias.shape) for weight, bias in layers] != expected:
                    raise ValueError(f"the correction at lead {kind_name(kind)} has layers of other sizes")
                if not all(np.isfinite(values).all() for layer in layers for values in layer):
                    raise ValueError(f"the correction at lead {kind_name(kind)} is not finite")


@dataclass(frozen=True)
class TrainingPatches:
    """Patches of the training cases, with MARGIN more cells of the predictors on each side."""

    rows: Tensor
    """Predictors in half precision, (patch, predictor, y, x)."""
    errors: Tensor
    """Standardised errors of the regression, (patch, field, y, x); NaN where the target is missing."""
    centre: Tensor
    """Mean of each predictor."""
    width: Tensor
    """Standard deviation of each predictor."""

    def batch(self, numbers: Tensor) -> Tensor:
        """Return the standardised predictors of these patches."""
        rows = (self.rows[numbers].float() - self.centre[:, None, None]) / self.width[:, None, None]
        return rows.contiguous(memory_format=torch.channels_last)


class CorrectionFit:
    """Patches of the training cases of one kind, and the fit to them."""

    def __init__(self, weights: Sequence[float], *, half: bool = False) -> None:
        """Begin a fit.

        Args:
            weights: Weights of the fields' errors in the loss (`Variable.loss_weight`).
            half: Whether convolutions are computed in bfloat16.
        """
        self._weights = torch.tensor(weights, dtype=torch.float32) / sum(weights)
        self._half = half
        self._generator = torch.Generator().manual_seed(0)
        self._rows: list[Tensor] = []
        self._errors: list[Tensor] = []
        self._folds: list[int] = []

    def add(self, rows: Tensor, errors: Tensor, *, fold: int, periodic: bool) -> None:
        """Add patches of a case.

        Args:
            rows: `selected` predictors, (predictor, y, x).
            errors: Errors of the regression, (field, y, x); NaN where the target is missing.
            fold: Fold of the case.
            periodic: Whether the domain is a torus.
        """
        ny, nx = (min(PATCH, side) for side in rows.shape[1:])
        padded = _padded(rows[None], periodic=periodic)[0]
        for _ in range(min(PATCHES, max(1, rows[0].numel() // (ny * nx)))):
            y, x = (
                int(torch.randint(side - length + 1, (), generator=self._generator))
                for side, length in zip(rows.shape[1:], (ny, nx), strict=True)
            )
            self._rows.append(padded[:, y : y + ny + 2 * MARGIN, x : x + nx + 2 * MARGIN].half())
            self._errors.append(errors[:, y : y + ny, x : x + nx].clone())
            self._folds.append(fold)

    def solve(self) -> tuple[Layers, ...]:
        """Fit a network for each fold to the errors of the cases outside it, or to all if there are no others.

        All networks are scaled by the factor between 0 and 1 with the least squared error of each network on its own
        fold, so that the correction vanishes if it does not carry over to other cases.
        """
        rows, errors, folds = torch.stack(self._rows), torch.stack(self._errors), torch.tensor(self._folds)
        centre, width = _centre_and_width(rows)
        _, size = _centre_and_width(errors)
        patches = TrainingPatches(rows, errors / size[:, None, None], centre, width)

        def fitted(fold: int) -> Network:
            others = folds != fold
            return self._fitted(patches, (others if others.any() else ~others).nonzero().flatten(), seed=fold)

        found = torch.zeros_like(errors)
        workers = torch.get_num_threads()
        # One thread computes each network, so that the bits do not depend on the number of threads.
        with cpu_threads(1), ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            networks = list(pool.map(fitted, range(FOLDS)))
            for fold, network in enumerate(networks):
                if len(own := (folds == fold).nonzero().flatten()):
                    with torch.no_grad():
                        found[own] = torch.cat([_network(network, patches.batch(part)) for part in own.split(BATCH)])
        scale = size * _share(found, patches.errors)
        return tuple(_folded(network, centre, width, scale) for network in networks)

    def _fitted(self, patches: TrainingPatches, chosen: Tensor, *, seed: int) -> Network:
        """Train a network on the chosen patches.

        Muon (Jordan et al. 2024) makes each step of a matrix of weights orthogonal, so that it learns in all directions
        at once; it needs half as many steps as AdamW.
        """
        generator = torch.Generator().manual_seed(seed)
        shapes = _shapes(patches.rows.shape[1], patches.errors.shape[1])
        weights = [nn.Parameter(_first_weights(shape, generator)) for shape in shapes]
        biases = [nn.Parameter(torch.zeros(shape[0])) for shape in shapes]
        nn.init.zeros_(weights[-1])
        first, *hidden, last = weights
        optimisers = (
            torch.optim.Muon(hidden, lr=HIDDEN_RATE, weight_decay=0.0),
            torch.optim.AdamW([first, last, *biases], lr=LEARNING_RATE),
        )
        steps = _steps(len(chosen))
        schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(step / steps)) for each in optimisers]

        def layers() -> Network:
            return [(weight.view(shape), bias) for weight, shape, bias in zip(weights, shapes, biases, strict=True)]

        for _ in range(steps):
            numbers = chosen[torch.randint(len(chosen), (BATCH,), generator=generator)]
            with torch.autocast("cpu", torch.bfloat16, enabled=self._half):
                found = _network(layers(), patches.batch(numbers))
            errors = patches.errors[numbers]
            squares = (found - errors.nan_to_num()).square() * torch.isfinite(errors) * self._weights[:, None, None]
            squares.sum(dim=1).mean().backward()
            for optimiser, schedule in zip(optimisers, schedules, strict=True):
                optimiser.step()
                optimiser.zero_grad()
                schedule.step()
        return [(weight.detach(), bias.detach()) for weight, bias in layers()]


def _first_weights(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """Draw the first weights of a convolution as a matrix, (output, input x y x x)."""
    return nn.init.kaiming_uniform_(torch.empty(shape).flatten(1), a=math.sqrt(5), generator=generator)


def _steps(patches: int) -> int:
    """Return the number of steps of a fit to so many patches."""
    a_pass = patches / BATCH
    return min(MAX_STEPS, math.ceil(min(MAX_PASSES * a_pass, max(FEW_STEPS, PASSES * a_pass))))


def _rate(progress: float) -> float:
    """Return the factor of the learning rates after a share of the steps: it rises from 0.01, then falls to zero."""
    return min(0.01 + progress / WARM_UP, (1 - progress) / (1 - WARM_UP))


def _folded(layers: Network, centre: Tensor, width: Tensor, scale: Tensor) -> Layers:
    """Make the first convolution take predictors in their own units, and the last return corrections in theirs."""
    (first, bias), *blocks, (last, last_bias) = layers
    first = first / width[:, None, None]
    bias = bias - (first * centre[:, None, None]).sum(dim=(1, 2, 3))
    found = [(first, bias), *blocks, (last * scale[:, None, None, None], last_bias * scale)]
    return tuple((_halved(weight.numpy()), _halved(offset.numpy())) for weight, offset in found)


def _tensors(layers: Layers, device: torch.device) -> Network:
    return [(send(torch.from_numpy(w), device), send(torch.from_numpy(b), device)) for w, b in layers]


def _shapes(predictors: int, fields: int) -> list[tuple[int, int, int, int]]:
    """Return the shapes of the weights of all convolutions, (output, input, y, x)."""
    blocks = [(HIDDEN, HIDDEN, 3, 3)] * (2 * BLOCKS)
    return [(HIDDEN, predictors, 1, 1), *blocks, (fields, HIDDEN, 1, 1)]


def _network(layers: Network, rows: Tensor) -> Tensor:
    """Compute corrections (row, field, y, x) from predictors with MARGIN more cells on each side."""
    x = functional.conv2d(rows, *layers[0])
    for block in range(BLOCKS):
        first, second = layers[1 + 2 * block], layers[2 + 2 * block]
        change = functional.conv2d(functional.silu(functional.conv2d(functional.silu(x), *first)), *second)
        x = x[..., 2:-2, 2:-2] + change
    return functional.conv2d(functional.silu(x), *layers[-1])


def _padded(rows: Tensor, *, periodic: bool) -> Tensor:
    """Continue predictors (row, predictor, y, x) by MARGIN cells on each side, as a torus or by their edge values."""
    return functional.pad(rows, (MARGIN,) * 4, mode="circular" if periodic else "replicate")


def _centre_and_width(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of patches (patch, channel, y, x), without missing values."""
    columns = [patches[:, channel].float().flatten() for channel in range(patches.shape[1])]
    columns = [column[torch.isfinite(column)] for column in columns]
    centre = torch.stack([column.mean() if len(column) else torch.zeros(()) for column in columns])
    width = torch.stack([column.std() if len(column) > 1 else torch.zeros(()) for column in columns])
    return centre, width + 1e-3


def _share(found: Tensor, errors: Tensor) -> Tensor:
    """Return the factor of corrections (patch, field, y, x) that suits errors to which they were not fitted, (field,).

    It is the least of the factors of PARTS successive parts, since a few days or events need not be typical.
    """
    found, errors = torch.where(torch.isfinite(errors), found, 0.0), errors.nan_to_num()
    parts = zip(found.chunk(PARTS), errors.chunk(PARTS), strict=True)
    factors = [(f * e).sum(dim=(0, 2, 3)) / f.square().sum(dim=(0, 2, 3)).clamp(min=1e-12) for f, e in parts]
    return torch.stack(factors).amin(dim=0).clamp(0, 1)


def _halved(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Round to half precision."""
    return values.astype(np.float16).astype(np.float32)


def _encoded(values: NDArray[np.float32]) -> dict[str, Any]:
    """Return the shape, and the values of half precision as base64: a twentieth of the size of decimals."""
    return {"shape": list(values.shape), "float16": base64.b64encode(values.astype("<f2").tobytes()).decode()}


def _decoded(entry: dict[str, Any]) -> NDArray[np.float32]:
    """Decode the result of `_encoded`; raises KeyError, TypeError or ValueError for damaged values."""
    values = np.frombuffer(base64.b64decode(entry["float16"], validate=True), "<f2")
    return values.reshape(entry["shape"]).astype(np.float32)
