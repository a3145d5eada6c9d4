"""Nonlinear correction of the regression, for fields with a floor: a small network at each point.

Storms grow where there is CAPE, little CIN and an echo to begin with, a product that no linear forecast has. A network
of two hidden layers sees the regression's predictors of the convective fields at one point (advected, averaged, and
their changes) and is fitted to the regression's errors in seconds; what depends on shapes is left to the diffusion
model. It is neural model output statistics (Rasp & Lerch 2018, doi:10.1175/MWR-D-18-0187.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from convcast.model.devices import send
from convcast.model.features.inputs import Kind, kind_name, parse_kind
from convcast.model.features.regression import GROUND_AND_SUN
from convcast.variables import Variable

POINTS = 800
"""Maximum number of points of a case, drawn at random, to which a correction is fitted."""
HELD_OUT = 0.2
"""Share of the cases, the last ones, that are not fitted: they decide how much of the correction is applied."""
BLOCKS = 3
"""Blocks of the cases held out, each of which must gain from the correction."""
HIDDEN = 32
"""Features of each hidden layer; 64 were no better on days apart."""
EPOCHS = 4
BATCH = 1024
LEARNING_RATE = 3e-3
WARM_UP = 50

Layers = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
"""Weights (output, input) and bias (output,) of each layer."""


def convective(predictors: int, variables: Sequence[Variable]) -> list[int]:
    """Return the indices of those of the regression's predictors that the correction sees.

    They are those of the fields with a loss weight above 1. By the others, and by the ground and the sun, a network
    knows its training days from each other: with them it was worse on days apart.
    """
    weather = range(GROUND_AND_SUN, predictors)
    return [i for i in weather if variables[(i - GROUND_AND_SUN) % len(variables)].loss_weight > 1]


@dataclass(frozen=True)
class Correction:
    """Corrections of the regression of some fields, in standardised units."""

    layers: dict[Kind, Layers]
    """Layers by kind of case; empty for no correction."""

    def predict(self, rows: Tensor, kinds: Sequence[Kind]) -> Tensor:
        """Predict the corrections (row, field, y, x) from `convective` predictors (row, predictor, y, x)."""
        corrected = []
        for row, kind in zip(rows, kinds, strict=True):
            x = row.flatten(1).T
            for number, (weights, bias) in enumerate(self.layers[kind]):
                x = functional.silu(x) if number else x
                x = functional.linear(x, *(send(torch.from_numpy(values), x.device) for values in (weights, bias)))
            corrected.append(x.T.reshape(-1, *row.shape[1:]))
        return torch.stack(corrected)

    def to_dict(self) -> dict[str, Any]:
        return {
            kind_name(kind): [[_rounded(values) for values in layer] for layer in layers]
            for kind, layers in self.layers.items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Correction:
        """Inverse of `to_dict`; raises TypeError or ValueError for damaged values."""
        return cls(
            {
                parse_kind(name): tuple(
                    (np.array(weight, np.float32), np.array(bias, np.float32)) for weight, bias in layers
                )
                for name, layers in values.items()
            }
        )

    def check(self, predictors: Mapping[Kind, int], fields: int) -> None:
        """Raise ValueError if this does not correct `fields` fields from these numbers of predictors by kind."""
        if self.layers.keys() != predictors.keys():
            raise ValueError("the correction is of other kinds of cases than the regression")
        for kind, layers in self.layers.items():
            sizes = (predictors[kind], HIDDEN, HIDDEN, fields)
            expected = [((after, before), (after,)) for before, after in pairwise(sizes)]
            if [(weight.shape, bias.shape) for weight, bias in layers] != expected:
                raise ValueError(f"the correction at lead {kind_name(kind)} has layers of other sizes")
            if not all(np.isfinite(values).all() for layer in layers for values in layer):
                raise ValueError(f"the correction at lead {kind_name(kind)} is not finite")


def _rounded(values: NDArray[np.float32]) -> Any:
    """Return nested lists of the shortest decimals that give the same float32 values."""
    if values.ndim > 1:
        return [_rounded(row) for row in values]
    return [float(str(value)) for value in values]


class CorrectionFit:
    """Points of the training cases of one kind, and the fit to them."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._rows: list[Tensor] = []
        self._targets: list[Tensor] = []

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """Take some points of a case: all predictors (predictor, point) and targets (field, point), none missing."""
        count = rows.shape[1]
        if count > POINTS:
            chosen = torch.randint(count, (POINTS,), generator=self._generator)
            rows, targets = rows[:, chosen], targets[:, chosen]
        self._rows.append(rows.T)
        self._targets.append(targets.T)

    def solve(self, weights: NDArray[np.float64], variables: Sequence[Variable]) -> Layers:
        """Fit to the errors of the regression with these weights (predictor, field); `variables` are all fields.

        The correction is scaled by a factor between 0 and 1 of least squared error on cases held out, so that it
        vanishes where it has learnt only its own cases.
        """
        held_out = max(1, round(HELD_OUT * len(self._rows)))
        rows, errors = [], []
        for part in (slice(None, -held_out), slice(-held_out, None)):
            x = torch.cat(self._rows[part] or self._rows)
            rows.append(x[:, convective(x.shape[1], variables)])
            errors.append(torch.cat(self._targets[part] or self._targets) - x @ torch.from_numpy(weights).float())
        center, width = rows[0].mean(dim=0), rows[0].std(dim=0) + 1e-3
        size = errors[0].std(dim=0) + 1e-6
        network = self._fitted((rows[0] - center) / width, errors[0] / size)
        with torch.no_grad():
            found = network((rows[1] - center) / width) * size
            share = _share(found, errors[1])
            first, second, last = (layer for layer in network if isinstance(layer, nn.Linear))
            weights_of_first = first.weight / width
            scaled = [
                (weights_of_first, first.bias - weights_of_first @ center),
                (second.weight, second.bias),
                (last.weight * (share * size)[:, None], last.bias * share * size),
            ]
        return tuple((weight.detach().numpy(), bias.detach().numpy()) for weight, bias in scaled)

    def _fitted(self, rows: Tensor, errors: Tensor) -> nn.Sequential:
        """Train a network on predictors (point, predictor) and errors (point, field), both of size 1."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            last = nn.Linear(HIDDEN, errors.shape[1])
            network = nn.Sequential(
                nn.Linear(rows.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), last
            )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
        steps = math.ceil(EPOCHS * len(rows) / BATCH)
        for step in range(steps):
            for group in optimiser.param_groups:
                decay = 0.5 + 0.5 * math.cos(math.pi * step / steps)
                group["lr"] = LEARNING_RATE * decay * min(1.0, (step + 1) / WARM_UP)
            chosen = torch.randint(len(rows), (BATCH,), generator=self._generator)
            loss = functional.mse_loss(network(rows[chosen]), errors[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return network


def _share(found: Tensor, errors: Tensor) -> Tensor:
    """Return the factor of corrections (point, field) that suits the errors of cases held out, (field,).

    It is the least of those of BLOCKS successive blocks: a few days or events say little of the next ones.
    """
    blocks = zip(found.chunk(BLOCKS), errors.chunk(BLOCKS), strict=True)
    factors = [(f * e).sum(dim=0) / f.square().sum(dim=0).clamp(min=1e-12) for f, e in blocks]
    return torch.stack(factors).amin(dim=0).clamp(0, 1)
