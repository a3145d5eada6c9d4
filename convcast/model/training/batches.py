"""Training cases as tensors; the random draws of a case depend on the seed and its number alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from convcast.dataset import Window, Windows
from convcast.model.devices import SideQueue, send
from convcast.model.features.condition import Features
from convcast.model.features.correction import fold_of
from convcast.model.features.inputs import Inputs, on_device
from convcast.model.features.residual import Residuals
from convcast.model.training.orientation import Orientation
from convcast.notation import Hour
from convcast.settings import InputName

Made = TypeVar("Made")
Group = TypeVar("Group")
IN_MEMORY = 2 << 30
"""Maximum size, in bytes, of prepared cases that are kept in memory."""
AHEAD = 4
"""Number of batches prepared ahead while the network is busy."""


class Batch(NamedTuple):
    """Training cases, one in each row."""

    channels: Tensor
    """The condition, (case, channel, y, x)."""
    numbers: Tensor
    """Lead, hour and with forcing its age, (case, number)."""
    residuals: Tensor
    """Scaled residuals, the target of the training, (case, variable, y, x); NaN where the target is missing."""
    spectra: Tensor
    """Index of the residuals' spectrum, (case,)."""

    @classmethod
    def joined(cls, parts: Sequence[Batch]) -> Batch:
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def divided(self, parts: int) -> list[Batch]:
        return [Batch(*part) for part in zip(*(values.chunk(parts) for values in self), strict=True)]

    def to(self, device: torch.device) -> Batch:
        return Batch(*(send(values, device) for values in self))

    def rolled(self, rows: int, columns: int) -> Batch:
        """Move the origin of the torus by `rows` and `columns`."""
        channels, residuals = (torch.roll(part, (rows, columns), (2, 3)) for part in (self.channels, self.residuals))
        return self._replace(channels=channels, residuals=residuals)


class DrawnCase(NamedTuple):
    """A case with its random draws."""

    number: int
    turn: int
    """Index of its orientation."""
    age: int | None
    """Age of its forcing."""
    window: Window | None
    """The window in this orientation; None if the prepared case is in memory."""
    shift: tuple[int, ...] | None
    """Rows and columns by which the torus is rolled."""


class Cases:
    """Cases of Windows, prepared as tensors.

    Where windows cover a whole, small domain, each case is prepared once for each orientation and kept in memory. The
    random shift of a torus then happens here, and not in Windows.
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
        fitted: tuple[Hour, Hour] | None = None,
        seed: int,
    ) -> None:
        """Prepare cases on demand.

        Args:
            windows: The cases.
            residuals: Reference forecast and scale of the residuals.
            inputs: Names of the inputs besides the fields (`model.inputs`).
            roll: Shift a torus at random.
            orientations: Orientations, from which one is drawn for each case.
            withheld: Fraction of cases without their forcing; the others get that of a random age. None gives each
                case its newest forcing.
            fitted: First and last hour of the cases to which the reference was fitted, if these are among them.
            seed: Seed of the random draws.
        """
        self.windows, self.residuals = windows, residuals
        self.inputs, self.orientations = inputs, orientations
        self.roll = roll and windows.periodic
        self.seed = seed
        self._withheld, self._fitted = withheld, fitted
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
        return self.prepared(self.drawn(number))

    @property
    def kept(self) -> bool:
        """Whether prepared cases stay in memory."""
        return self._kept is not None

    def drawn(self, number: int) -> DrawnCase:
        """Make the random draws of a case, and read it unless it is in memory."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, number]))
        turn = int(generator.integers(len(self.orientations)))
        age = self._age(number, generator)
        window = self._window(number, self.orientations[turn], age) if self._kept is None else None
        shift = tuple(int(generator.integers(side)) for side in self.windows.shape) if self.roll else None
        return DrawnCase(number, turn, age, window, shift)

    def prepared(self, case: DrawnCase) -> Batch:
        """Prepare a case on the CPU as a batch of one row."""
        if case.window is not None:
            made = self._features([case.window], "cpu")
        else:
            assert self._kept is not None
            key = case.number % len(self), case.turn, case.age
            if key not in self._kept:
                self._kept[key] = self._prepare(key[0], self.orientations[case.turn], case.age)
            made = self._kept[key]
        return made if case.shift is None else made.rolled(*case.shift)

    def together(self, drawn: Sequence[DrawnCase], device: torch.device | str = "cpu") -> Batch:
        """Prepare cases as one batch on the device.

        Cases with forcing of one age are prepared in one pass, since queueing the operations of a case takes longer
        than a GPU takes to do them.
        """
        rows: dict[int, Batch] = {}
        for age in {case.age for case in drawn}:
            chosen = {i: case.window for i, case in enumerate(drawn) if case.age == age and case.window is not None}
            made = self._features(list(chosen.values()), device)
            rows |= zip(chosen, made.divided(len(chosen)), strict=True)
        return Batch.joined(
            [rows[i] if case.shift is None else rows[i].rolled(*case.shift) for i, case in enumerate(drawn)]
        )

    def _age(self, number: int, generator: np.random.Generator) -> int | None:
        """Return the age of the forcing that a case gets, None for none."""
        ages = self.windows.ages(number)
        if self._withheld is None:
            return ages[0] if ages else None
        if self.windows.forcing is None or generator.random() < self._withheld or not ages:
            return None
        return ages[int(generator.integers(len(ages)))]

    def _window(self, number: int, orientation: Orientation, age: int | None) -> Window:
        return orientation.apply(self.windows.forced(number, age), self.residuals.normalisation.variables)

    def _prepare(self, number: int, orientation: Orientation, age: int | None) -> Batch:
        return self._features([self._window(number, orientation, age)], "cpu")

    def _features(self, windows: Sequence[Window], device: torch.device | str) -> Batch:
        """Standardise and advect windows of one age of forcing and compute their reference forecast, on the device."""
        normalisation, periodic = self.residuals.normalisation, self.windows.periodic
        folds = None if self._fitted is None else tuple(fold_of(window.init, *self._fitted) for window in windows)
        inputs = Inputs.of(windows, normalisation, periodic=periodic, names=self.inputs, folds=folds, device=device)
        made = Features.of(inputs, self.residuals, forced=self.windows.forcing is not None)
        targets = [window.target for window in windows if window.target is not None]
        observed = on_device(targets, normalisation, torch.device(device))
        target = normalisation.standardised(observed, periodic=periodic)
        # bfloat16 is the precision of the network, and takes half the memory.
        residuals = (target - made.reference) / made.scale
        return Batch(made.channels.bfloat16(), made.numbers, residuals, made.spectra)


def batches(
    cases: Cases, order: Iterable[int], size: int, *, workers: int = 1, device: torch.device | None = None
) -> Iterator[Batch]:
    """Yield batches of `size` cases in the order of the numbers `order`.

    Background threads prepare them. For a GPU they only read: copies, standardising, advection and the reference
    forecast are queued on the device one batch ahead, beside the work of the network.

    Args:
        cases: The cases.
        order: Numbers of the cases; numbers from `len(cases)` on repeat them with new random draws.
        size: Number of cases in a batch; the last one may have fewer.
        workers: Number of background threads.
        device: Where the batches are; None leaves them on the CPU.
    """
    if device is not None and device.type == "cuda" and not cases.kept:
        read = _ahead(lambda chosen: [cases.drawn(number) for number in chosen], order, size, workers)
        yield from on_side_queue(read, lambda group: cases.together(group, device), SideQueue(device))
        return
    prepared = _ahead(lambda chosen: Batch.joined([cases[number] for number in chosen]), order, size, workers)
    for batch in prepared:
        yield batch if device is None else batch.to(device)


def on_side_queue(groups: Iterable[Group], prepare: Callable[[Group], Batch], queue: SideQueue) -> Iterator[Batch]:
    """Yield the batch of each group; that of the next one is queued before.

    Args:
        groups: What each batch is made from.
        prepare: Queues the operations that make a batch from a group.
        queue: The queue beside the work of the network.
    """
    coming: tuple[Batch, torch.cuda.Event | None] | None = None
    for group in chain(groups, [None]):
        following = None if group is None else queue.put(partial(prepare, group))
        if coming is not None:
            queue.let_wait(coming[1], coming[0])
            yield coming[0]
        coming = following


def _ahead(make: Callable[[Sequence[int]], Made], order: Iterable[int], size: int, workers: int) -> Iterator[Made]:
    """Yield what `make` returns for each `size` numbers, made ahead by background threads."""
    pending: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cases")
    try:
        numbered = iter(order)
        while numbers := tuple(islice(numbered, size)):
            pending.append(pool.submit(make, numbers))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
