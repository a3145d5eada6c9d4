"""A pool of daemon threads, which do not keep a stopped process alive.

At its end a process waits for the threads of concurrent.futures. A thread that looks up a host name, or waits for a
disk that does not respond, cannot be stopped, and would delay the end of the process.
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
"""Seconds that threads have to end after the run is stopped; those that need longer are abandoned."""
_INTERVAL = 0.2
"""Seconds between checks whether the run is stopped."""


class ThreadPool(Generic[T, R]):
    """Threads that apply one function to each of a number of items."""

    def __init__(self, work: Callable[[T], R], items: Sequence[T], workers: int, stopped: threading.Event) -> None:
        """Prepare the threads, which `results` starts; once `stopped` is set, it ends without the unfinished items.

        Args:
            work: The function, called on several threads at once.
            items: The items.
            workers: Maximum number of threads.
            stopped: Set by the caller to end the run.
        """
        self._work = work
        self._waiting = deque(enumerate(items))
        self._unfinished = dict(enumerate(items))
        self._ended: SimpleQueue[tuple[int, R | None, BaseException | None]] = SimpleQueue()
        self._stopped = stopped
        self._threads = [
            threading.Thread(target=self._run, name=f"fetch-{number}", daemon=True)
            for number in range(min(workers, len(items)))
        ]

    def results(self) -> Iterator[R]:
        """Start the threads, and yield the result of each item as it ends; raises what the function raises.

        Items that are not done within GRACE seconds after the run was stopped are left out.
        """
        for thread in self._threads:
            thread.start()
        until: float | None = None
        while self._unfinished:
            try:
                number, result, error = self._ended.get(timeout=_INTERVAL)
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
        """Return the items whose results were not yielded."""
        return list(self._unfinished.values())

    def join(self, seconds: float | None = None) -> None:
        """Begin no further items, and wait for the running ones, at most for this number of seconds."""
        self._waiting.clear()
        until = None if seconds is None else time.monotonic() + seconds
        for thread in filter(threading.Thread.is_alive, self._threads):
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
