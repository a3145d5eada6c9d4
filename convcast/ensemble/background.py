"""Threads that draw noise ahead and write finished members while members are drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Done = TypeVar("Done")
Floats = NDArray[np.float32]
Draw = Callable[[int, int], Floats]
"""Function that draws the noise (variable, y, x) of a member number for a step of the solver."""


class NoiseAhead:
    """Draws noise on threads before it is needed; numpy releases the interpreter's lock while it draws."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="noise")
        self._coming: dict[tuple[tuple[int, ...], int, int], list[Future[Floats]]] = {}

    def expect(self, draw: Draw, members: Sequence[int], lead: int, step: int = 0) -> None:
        """Begin to draw the noise that `take` will return for the same members, lead and step."""
        key = tuple(members), lead, step
        if key not in self._coming:
            self._coming[key] = [self._pool.submit(draw, member, step) for member in members]

    def take(self, draw: Draw, members: Sequence[int], lead: int, step: int) -> Tensor:
        """Return the noise of the members, (member, variable, y, x), on the CPU.

        Args:
            draw: Draws the noise of one member, (variable, y, x).
            members: Numbers of the members.
            lead: Lead time, hours, for which the noise is.
            step: Step of the solver.
        """
        self.expect(draw, members, lead, step)
        return torch.from_numpy(np.stack([one.result() for one in self._coming.pop((tuple(members), lead, step))]))

    def close(self) -> None:
        """End the threads; noise that was not begun is not drawn."""
        self._coming.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Writer(Generic[Done]):
    """Writes on one thread, in the order of the requests, while the next members are drawn."""

    def __init__(self, *, waiting: int) -> None:
        """Let at most `waiting` writes wait, since each holds its fields in memory."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._waiting, self._pending = waiting, list[Future[Done]]()

    def submit(self, write: Callable[[], Done]) -> Iterator[Done]:
        """Queue a write, and yield what earlier ones returned; waits while too many are queued.

        An exception of a write is raised here or by `rest`.
        """
        self._pending.append(self._pool.submit(write))
        while self._pending and (self._pending[0].done() or len(self._pending) > self._waiting):
            yield self._pending.pop(0).result()

    def rest(self) -> Iterator[Done]:
        """Wait for all writes."""
        while self._pending:
            yield self._pending.pop(0).result()

    def __enter__(self) -> Writer[Done]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
