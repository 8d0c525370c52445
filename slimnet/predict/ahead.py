"""Work done ahead of time in threads, in order, with a bound on how far ahead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

TASK = 0.005
"""Seconds that a thread should be busy with what it takes at a time: handing over less costs more than it gains."""


def map_ahead(work: Callable[[In], Out], items: Iterable[In], *, workers: int, chunk: int, ahead: int) -> Iterator[Out]:
    """``map``, in threads.

    Threads take several items at a time: a share of the chunk at first, then as many as take `TASK`. Where the work is slow, all
    threads have some of it; where it is quick and nothing waits for it, one thread does it, and none hinders another.

    Args:
        work: what to do with an item; its exceptions come out in the item's turn.
        items: taken as they are needed.
        workers: number of threads; 0 does the work when it is asked for.
        chunk: the most items that a thread takes at a time.
        ahead: items that are begun or done and not yet asked for; at most a chunk more.

    Yields:
        The results, in the order of the items.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pending: deque[Future[_Part[Out]]] = deque()
    iterator, size, count, timed = iter(items), -(-chunk // workers), 0, False
    pool = ThreadPoolExecutor(workers, thread_name_prefix="slimnet")
    try:
        while part := list(islice(iterator, size)):
            pending.append(pool.submit(_worked, work, part))
            count += len(part)
            while count > ahead or (len(pending) > workers and not timed):
                done, timed = pending.popleft().result(), True
                yield from done.given()
                count -= len(done.results)
                size = min(chunk, max(1, round(len(done.results) * TASK / max(done.seconds, 1e-9))))
        while pending:
            yield from pending.popleft().result().given()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Part(Generic[Out]):
    """What a thread took at a time, done as far as it went."""

    results: list[Out]
    seconds: float
    error: BaseException | None = None

    def given(self) -> Iterator[Out]:
        yield from self.results
        if self.error is not None:
            raise self.error


def _worked(work: Callable[[In], Out], items: Sequence[In]) -> _Part[Out]:
    part: _Part[Out] = _Part([], 0.0)
    start = time.perf_counter()
    try:
        for item in items:
            part.results.append(work(item))
    except BaseException as error:
        part.error = error
    part.seconds = time.perf_counter() - start
    return part
