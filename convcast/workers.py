"""Work shared by processes or machines, through dask.distributed where it is installed; or done here, one by one."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import uuid4

from convcast.errors import MissingInputError, SettingsError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")
Value = TypeVar("Value", covariant=True)
SAFE_PATH = ("PYTHONSAFEPATH", "convcast")
"""A variable by which the Pythons that a run starts import nothing from the working directory, and a value by which it
is known that the user did not set it; any value has that effect."""
TASKS_PER_WORKER = 2
"""Tasks in hand for each worker, so that none waits and none piles up."""


@dataclass(frozen=True)
class Workers:
    """So many processes of this machine, or those of a scheduler that runs elsewhere."""

    count: int = 0
    scheduler: str | None = None

    @classmethod
    def chosen(cls, count: int, scheduler: str | None) -> Workers | None:
        """None where one process does it all."""
        return cls(count, scheduler) if count > 1 or scheduler else None


class Pending(Protocol[Value]):
    """What will be given."""

    def result(self) -> Value: ...


class Pool:
    """Hands out tasks, all with the same shared. This one does each at once, here."""

    ahead = 0
    """Tasks that may be under way beyond the one that is waited for."""

    def submit(self, function: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Pending[Result]:
        """`function(shared, item)`, sooner or later; what it raises, `result()` raises.

        A process uses the first copy of the shared that it was given for all tasks, so that what it caches lasts.
        """
        return _Done(function(shared, item))

    def in_order(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Generator[Result, None, None]:
        """`function(shared, item)` of each item, a few of them under way at a time."""
        under_way = deque[Pending[Result]]()
        for item in items:
            under_way.append(self.submit(function, shared, item))
            if len(under_way) > self.ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


@dataclass(frozen=True)
class _Done(Generic[Value]):
    value: Value

    def result(self) -> Value:
        return self.value


class _DaskPool(Pool):
    def __init__(self, client: Any) -> None:
        self._client = client
        self.ahead = TASKS_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

        self._name = uuid4().hex

    def submit(self, function: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Pending[Result]:
        # The shared goes with every task: dask's scattered data are lost with the workers that hold them.
        return _Remote(self._client.submit(_call, function, self._name, shared, item, pure=False))


_kept: tuple[str, Any] = ("", None)
"""Of a worker: the pool that it works for, and the shared."""


def _call(function: Callable[[Shared, Item], Result], name: str, shared: Shared, item: Item) -> Result:
    global _kept
    if _kept[0] != name:
        _kept = (name, shared)
    return function(_kept[1], item)


@dataclass(frozen=True)
class _Remote(Generic[Value]):
    future: Any

    def result(self) -> Value:
        from distributed import KilledWorker

        try:
            value: Value = self.future.result()
        except KilledWorker as error:
            # The scheduler has given the task to other workers before; several died over it.
            raise MissingInputError(
                f"workers died one after the other over the same task ({error.task})",
                advice="see their logs; they may lack memory: use fewer workers, then run the same command again",
            ) from error
        return value


@contextmanager
def pool(workers: Workers | None) -> Iterator[Pool]:
    """Raises SettingsError where dask.distributed is not installed or the scheduler does not answer.

    A task whose worker dies is done again by another one, so tasks must be such that this does no harm.
    """
    if workers is None:
        yield Pool()
        return
    with _client(workers) as client:
        yield _DaskPool(client)


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: Workers | None
) -> Generator[Result, None, None]:
    """`function` of each item, in order: here where there are no workers, else on them, a few at a time.

    Raises what `pool` raises.
    """
    if not items:
        return
    with pool(workers) as here:
        yield from here.in_order(_apply, function, items)


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


@contextmanager
def _client(workers: Workers) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise SettingsError(
            "dask workers need the package distributed, which is not installed",
            advice="run `pip install 'convcast[dask]'`, or leave out --workers and --dask-address",
        ) from None
    if workers.scheduler is not None:
        try:
            client = Client(workers.scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"no dask scheduler answers at {workers.scheduler} ({error})", advice="start one, or use --workers 2"
            ) from error
        with client:
            yield client
        return
    with (
        warnings.catch_warnings(),
        LocalCluster(n_workers=workers.count, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        yield client
