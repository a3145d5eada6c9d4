"""Cases on other processes or machines, through dask.distributed where it is installed."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from convcast.errors import SettingsError

Item = TypeVar("Item")
Result = TypeVar("Result")
AHEAD = 2
"""Cases in hand for each worker, so that none waits and none piles up."""


@dataclass(frozen=True)
class Workers:
    """So many processes of this machine, or those of a scheduler that runs elsewhere."""

    count: int = 0
    scheduler: str | None = None


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], workers: Workers | None
) -> Generator[Result, None, None]:
    """`function` of each item, in order: here where there are no workers, else on them, a few at a time.

    Raises SettingsError where dask.distributed is not installed or the scheduler does not answer.
    """
    if workers is None or not items:
        for item in items:
            yield function(item)
        return
    with _client(workers) as client:
        sent = client.scatter(function, broadcast=True, hash=False)
        count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        waiting, under_way = deque(items), deque[Any]()
        while waiting or under_way:
            while waiting and len(under_way) < AHEAD * count:
                under_way.append(client.submit(_apply, sent, waiting.popleft(), pure=False))
            yield under_way.popleft().result()


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)


@contextmanager
def _client(workers: Workers) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise SettingsError(
            "dask workers need the package distributed, which is not installed",
            advice="run `pip install 'convcast[dask]'`, or leave out --workers and --scheduler",
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
