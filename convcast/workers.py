"""Run tasks in this process, or in parallel on processes or machines through dask.distributed."""

from __future__ import annotations

import operator
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from convcast.errors import MissingInputError, SettingsError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")
SAFE_PATH = ("PYTHONSAFEPATH", "convcast")
"""Environment variable that keeps child Pythons from importing from the working directory, and its value. Any value has
that effect; this one shows that convcast set it."""
TASKS_PER_WORKER = 2
"""Number of tasks queued per worker, so that workers are never idle and results do not pile up."""
ANSWER_SECONDS = 10.0
"""Time that a dask scheduler is given to answer."""


@dataclass(frozen=True)
class Workers:
    """Worker processes: a number of local ones, or those of a dask scheduler at an address."""

    count: int = 0
    scheduler: str | None = None

    @classmethod
    def chosen(cls, count: int, scheduler: str | None) -> Workers | None:
        """Return the workers that these options choose, or None if everything runs in this process."""
        return cls(count, scheduler) if count > 1 or scheduler else None


class Pool:
    """Runs tasks that share one object: immediately in this process, or on the workers of a dask client."""

    def __init__(self, client: Any = None) -> None:
        workers = 0 if client is None else max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        self.ahead = TASKS_PER_WORKER * workers
        """Maximum number of tasks submitted beyond the one whose result is awaited."""
        self._executor: Executor | None = None if client is None else client.get_executor(pure=False)
        self._name = uuid4().hex

    def submit(self, function: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Future[Result]:
        """Run `function(shared, item)`; `result()` raises what the function raises.

        A process uses the first copy of `shared` that it receives for all tasks, so that its caches last.
        """
        if self._executor is None:
            done = Future[Result]()
            done.set_result(function(shared, item))
            return done
        # `shared` goes with every task: dask's scattered data are lost with the workers that hold them.
        return self._executor.submit(_call, function, self._name, shared, item)

    def in_order(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Generator[Result, None, None]:
        """Yield `function(shared, item)` of each item in order, with a few tasks running at a time.

        Args:
            function: The function, called with `shared` and an item.
            shared: What all calls share; see `submit`.
            items: The items.
        """
        under_way = deque[Future[Result]]()
        for item in items:
            under_way.append(self.submit(function, shared, item))
            if len(under_way) > self.ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


_shared: tuple[str, Any] = ("", None)
"""The pool that this worker process serves, and its copy of the shared object."""


def _call(function: Callable[[Shared, Item], Result], name: str, shared: Shared, item: Item) -> Result:
    global _shared
    if _shared[0] != name:
        _shared = (name, shared)
    return function(_shared[1], item)


@contextmanager
def pool(workers: Workers | None) -> Iterator[Pool]:
    """Open a pool of workers, or one that runs tasks in this process if `workers` is None.

    A task whose worker dies is run again by another worker, so tasks must be idempotent.

    Raises:
        SettingsError: dask.distributed is not installed, or the scheduler does not answer.
        MissingInputError: Several workers died over the same task.
    """
    if workers is None:
        yield Pool()
        return
    with _client(workers) as client:
        from distributed import KilledWorker

        try:
            yield Pool(client)
        except KilledWorker as error:
            raise MissingInputError(
                f"workers died one after the other over the same task ({error.task})",
                advice="see their logs; they may lack memory: use fewer workers, then run the same command again",
            ) from error


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: Workers | None
) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item, in order, in this process or on workers.

    Args:
        function: The function, called with an item.
        items: The items.
        workers: The workers; None for this process.

    Raises:
        SettingsError: dask.distributed is not installed, or the scheduler does not answer.
        MissingInputError: Several workers died over the same task.
    """
    if not items:
        return
    with pool(workers) as opened:
        yield from opened.in_order(operator.call, function, items)


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
            client = Client(workers.scheduler, timeout=ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"no dask scheduler answers at {workers.scheduler} ({error})", advice="start one, or use --workers 2"
            ) from error
        with client:
            yield client
        return
    with (
        warnings.catch_warnings(),
        LocalCluster(
            n_workers=workers.count,
            threads_per_worker=1,
            dashboard_address=None,
            # The scheduler still listens for HTTP; two runs at once would warn that they want the same port.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
