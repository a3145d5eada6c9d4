"""Read the next value on a thread while the caller computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class ReadAhead(Generic[Key, Value]):
    """Reads one value ahead of the caller, in an order that is known beforehand."""

    def __init__(self, read: Callable[[Key], Value], order: Iterable[Key]) -> None:
        """Begin to read the first value of the order.

        Args:
            read: Reads the value of a key.
            order: Keys in the order in which they will be taken; a value may be left out or taken again.
        """
        self._read, self._order = read, deque(order)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._coming: tuple[Key, Future[Value]] | None = None
        self._begin()

    def take(self, key: Key) -> Value:
        """Return the value of a key, and begin to read the one that follows it; raises what reading it raises."""
        coming, self._coming = self._coming, None
        value = coming[1].result() if coming is not None and coming[0] == key else self._read(key)
        if key in self._order:
            while self._order.popleft() != key:
                pass
        self._begin()
        return value

    def close(self) -> None:
        """End the thread once it has read the value that it is reading."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self) -> None:
        if self._order:
            self._coming = self._order[0], self._pool.submit(self._read, self._order[0])
