"""Training cases as tensors; the random draws of a case depend on the seed and its number alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from convcast.dataset import Windows
from convcast.model.features import condition
from convcast.model.features.inputs import Inputs
from convcast.model.features.residual import Residuals
from convcast.model.training.orientation import Orientation
from convcast.settings import InputName

IN_MEMORY = 2 << 30
"""Maximum size, in bytes, of prepared cases that are kept in memory."""
AHEAD = 4
"""Batches prepared while the network is busy."""


class Batch(NamedTuple):
    """Training cases, one in each row."""

    channels: Tensor
    """The condition, (case, channel, y, x)."""
    numbers: Tensor
    """Lead, hour and with forcing its age, (case, number)."""
    residuals: Tensor
    """Scaled residuals, the target of the training, (case, variable, y, x); NaN where the target is missing."""

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def divided(self, parts: int) -> list[Batch]:
        return [Batch(*part) for part in zip(*(values.chunk(parts) for values in self), strict=True)]

    def to(self, device: torch.device) -> Batch:
        return Batch(*(values.to(device, non_blocking=True) for values in self))

    def rolled(self, rows: int, columns: int) -> Batch:
        """Move the origin of the torus by `rows` and `columns`."""
        channels, residuals = (torch.roll(part, (rows, columns), (2, 3)) for part in (self.channels, self.residuals))
        return Batch(channels, self.numbers, residuals)


class Cases:
    """Cases of Windows, prepared as tensors.

    Where windows cover a whole, small domain, each case is prepared once for each orientation and kept in memory. It
    cannot be augmented by Windows then, so the random shift of a torus happens here.
    """

    def __init__(
        self,
        windows: Windows,
        residuals: Residuals,
        *,
        inputs: Sequence[InputName],
        roll: bool,
        orientations: Sequence[Orientation] = (Orientation(),),
        withheld: float | None = None,
        seed: int,
    ) -> None:
        """Prepare cases on demand.

        Args:
            windows: The cases.
            residuals: Reference forecast and scale of the residuals.
            inputs: Names of the inputs besides the fields (`model.inputs`).
            roll: Shift a torus at random.
            orientations: Orientations of which each case gets a random one.
            withheld: Fraction of cases without their forcing; the others get that of a random age. None gives each
                case its newest forcing.
            seed: Seed of the random draws.
        """
        self.windows, self.residuals = windows, residuals
        self.inputs, self.orientations = inputs, orientations
        self.roll = roll and windows.periodic
        self.seed = seed
        self._withheld = withheld
        self._kept: dict[tuple[int, int, int | None], Batch] | None = None
        if windows.whole and not windows.augment:
            first = self._prepare(0, orientations[0], None)
            bytes_each = sum(t.numel() * t.element_size() for t in (first.channels, first.residuals))
            ages = 0 if windows.forcing is None else len(windows.forcing.ages) if withheld is not None else 1
            variants = len(windows) * len(orientations) * (1 + ages)
            self._kept = {} if bytes_each * variants <= IN_MEMORY else None

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: int) -> Batch:
        """Return a batch of one row; numbers from `len(self)` on repeat the cases with new random draws."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        turn = int(generator.integers(len(self.orientations)))
        age = self._age(number, generator)
        if self._kept is None:
            made = self._prepare(number, self.orientations[turn], age)
        else:
            case = number % len(self), turn, age
            if case not in self._kept:
                self._kept[case] = self._prepare(case[0], self.orientations[turn], age)
            made = self._kept[case]
        if self.roll:
            made = made.rolled(*(int(generator.integers(side)) for side in self.windows.shape))
        return made

    def _age(self, number: int, generator: np.random.Generator) -> int | None:
        """Return the age of the forcing that a case gets, None for none."""
        ages = self.windows.ages(number)
        if self._withheld is None:
            return ages[0] if ages else None
        if self.windows.forcing is None or generator.random() < self._withheld or not ages:
            return None
        return ages[int(generator.integers(len(ages)))]

    def _prepare(self, number: int, orientation: Orientation, age: int | None) -> Batch:
        window = orientation.apply(self.windows.forced(number, age), self.residuals.normalisation.variables)
        residuals = self.residuals
        inputs = Inputs.of([window], residuals.normalisation, periodic=self.windows.periodic, names=self.inputs)
        reference, scale = residuals.reference(inputs), residuals.scales(inputs)
        assert window.target is not None
        standardised = residuals.normalisation.standardise(window.target, periodic=self.windows.periodic)
        target = torch.from_numpy(standardised)[None]
        forced = self.windows.forcing is not None
        # bfloat16 is what the network computes in, and half the memory to keep and to roll.
        return Batch(
            condition.channels(inputs, reference, scale, forced=forced).bfloat16(),
            condition.numbers(inputs, forced=forced),
            (target - reference) / scale,
        )


def batches(cases: Cases, order: Iterable[int], size: int, *, workers: int = 1) -> Iterator[Batch]:
    """Yield batches of `size` cases in the order of the numbers `order`, prepared by background threads."""
    pending: deque[Future[Batch]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cases")
    try:
        numbered = iter(order)
        while numbers := tuple(islice(numbered, size)):
            pending.append(pool.submit(lambda chosen: Batch.joined([cases[number] for number in chosen]), numbers))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
