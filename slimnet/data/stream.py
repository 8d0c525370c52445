"""Batches made ahead of time, in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Generator, Tensor
from torch.utils.data import DataLoader

from slimnet.errors import DataError

Order = TypeVar("Order")
_AHEAD = 4  # batches a process


@dataclass(frozen=True)
class _Work(Generic[Order]):
    """What a DataLoader takes for a data set; an order is one batch."""

    make: Callable[[Order], Tensor]

    def __getitems__(self, order: Order) -> Tensor | DataError:
        """A whole batch at once, or what is wrong: an error that is raised here would come with a traceback in its text."""
        try:
            return self.make(order)
        except DataError as error:
            return error


def stream(
    make: Callable[[Order], Tensor], orders: Iterable[Order], *, workers: int | None = None, pinned: bool = False
) -> Iterator[Tensor]:
    """Make batch after batch.

    Args:
        make: makes one, in whatever process.
        orders: what each is made of; asked for little by little.
        workers: number of processes, 0 for none; one a core, but no more than 8, if None.
        pinned: give them in memory that a GPU fetches from by itself.

    Raises:
        DataError: what ``make`` raised.
    """
    count = min(8, cores()) if workers is None else workers
    loader: DataLoader[Any] = DataLoader(
        _Work(make),  # type: ignore[arg-type]  # it has what a map-style data set needs
        batch_sampler=orders,  # type: ignore[arg-type]
        num_workers=count,
        prefetch_factor=_AHEAD if count else None,
        pin_memory=pinned,
        collate_fn=_identity,
        generator=Generator(),  # or it would draw from torch's global generator
    )
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _identity(batch: Any) -> Any:
    return batch
