"""Work done ahead of time in threads, in order, with a bound on how far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def map_ahead(work: Callable[[In], Out], items: Iterable[In], *, workers: int, chunk: int, chunks: int) -> Iterator[Out]:
    """``map``, in threads.

    Args:
        work: what to do with an item; its exceptions come out in the item's turn.
        items: taken as they are needed.
        workers: number of threads; 0 does the work when it is asked for.
        chunk: items that a thread takes at a time.
        chunks: the most chunks that are begun or done and not yet asked for.

    Yields:
        The results, in the order of the items.
    """
    if workers == 0:
        yield from map(work, items)
        return
    pending: deque[Future[list[Out]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="slimnet")
    try:
        for part in _chunked(items, chunk):
            pending.append(pool.submit(_all, work, part))
            if len(pending) > chunks:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _all(work: Callable[[In], Out], items: Sequence[In]) -> list[Out]:
    return [work(item) for item in items]


def _chunked(items: Iterable[In], size: int) -> Iterator[list[In]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
