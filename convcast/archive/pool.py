"""A pool of daemon threads, which do not keep a stopped process alive.

The threads of concurrent.futures are waited for when the process ends. One that looks up a name, or waits for a disk
that does not answer, cannot be stopped from outside, and would hold the whole process for as long as that takes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

GRACE = 1.0
"""Seconds that threads have to end once the run is stopped; those that need longer are left behind."""
_LOOK = 0.2
"""Seconds after which it is looked whether the run is stopped."""


class ThreadPool(Generic[T, R]):
    """Threads that apply one function to each of a number of items."""

    def __init__(self, work: Callable[[T], R], items: Sequence[T], workers: int, stopped: threading.Event) -> None:
        """`stopped` is set by others where what has not ended shall be given up."""
        self._work = work
        self._waiting = deque(enumerate(items))
        self._unfinished = dict(enumerate(items))
        self._ended: SimpleQueue[tuple[int, R | None, BaseException | None]] = SimpleQueue()
        self._stopped = stopped
        self._threads = [
            threading.Thread(target=self._run, name=f"fetch-{number}", daemon=True)
            for number in range(min(workers, len(items)))
        ]
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[R]:
        """Yield the result of each item as it ends; raises what the function raises.

        Ends without those that were not done within GRACE seconds once the run was stopped.
        """
        until: float | None = None
        while self._unfinished:
            try:
                number, result, error = self._ended.get(timeout=_LOOK)
            except Empty:
                if self._stopped.is_set():
                    until = until or time.monotonic() + GRACE
                    if time.monotonic() > until:
                        return
                continue
            del self._unfinished[number]
            if error is not None:
                raise error
            yield result  # type: ignore[misc]  # an item that has ended without an error has a result

    def unfinished(self) -> list[T]:
        """The items whose results were not given."""
        return list(self._unfinished.values())

    def join(self, seconds: float | None = None) -> None:
        """Begin nothing new, and wait until what is under way has ended, at most so many seconds."""
        self._waiting.clear()
        until = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while True:
            try:
                number, item = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._ended.put((number, self._work(item), None))
            except BaseException as error:  # noqa: BLE001  raised again by the thread that asks for results
                self._ended.put((number, None, error))
