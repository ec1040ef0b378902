"""Rows in batches: longest first, by token budget, halved when memory runs out, results in input order."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, TypeVar

from rerank.errors import OutOfMemoryError, ScoringError
from rerank.forks import no_fork
from rerank.protocols import Request, Scores
from rerank.streams import Streams

T = TypeVar("T")
R = TypeVar("R")


def plan_batches(
    lengths: Sequence[int], max_tokens: int, max_items: int | None = None, *, pads: bool = True
) -> list[list[int]]:
    """Group rows so that each batch, padded to its longest row, holds at most ``max_tokens`` tokens.

    Args:
        lengths: Token count per row.
        max_tokens: Budget of one batch, padding included; a longer row is a batch of its own.
        max_items: At most this many rows per batch.
        pads: Whether rows of different lengths may share a batch.

    Returns:
        Positions, each once, longest rows first: rows of similar length share a batch, and memory peaks at the start.
    """
    batches: list[list[int]] = []
    capacity = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or len(batches[-1]) >= capacity or not (pads or lengths[batches[-1][0]] == lengths[i]):
            capacity = max(1, max_tokens // max(1, lengths[i]))
            capacity = capacity if max_items is None else min(capacity, max_items)
            batches.append([])
        batches[-1].append(i)
    return batches


def map_batches(
    items: Sequence[T],
    lengths: Sequence[int],
    forward: Callable[[list[T]], Sequence[R]],
    *,
    max_tokens: int,
    max_items: int | None = None,
    pads: bool = True,
    out_of_memory: tuple[type[BaseException], ...] = (),
    progress: bool = False,
    streams: Streams | None = None,
) -> list[R]:
    """Run ``forward`` over all items in batches; equal items run once and share the result.

    If a batch runs out of memory, it and all remaining items are planned again with half its tokens.

    Args:
        items: What ``forward`` takes, one per row; must be hashable.
        lengths: Token count per item.
        forward: Takes a batch and returns one result per item.
        max_tokens: Budget of one batch, padding included.
        max_items: At most this many items per batch.
        pads: Whether items of different lengths may share a batch.
        out_of_memory: The exceptions that mean so, such as ``torch.OutOfMemoryError``; others propagate.
        progress: Show a progress bar on standard error after one second, if that is a terminal.
        streams: Threads that run batches in parallel, longest first, each in whichever thread is free; None runs one
            batch after another in the caller's thread.

    Returns:
        One result per item, in input order.

    Raises:
        OutOfMemoryError: One item alone does not fit.
        ScoringError: The number of ``lengths`` or of ``forward``'s results is not that of the items.
    """
    if len(lengths) != len(items):
        raise ScoringError(f"{len(items)} items came with {len(lengths)} lengths: give one per item")
    distinct = dict(zip(items, lengths))
    work, lengths = list(distinct), list(distinct.values())
    if streams is not None and streams.count > 1:  # so that each of them has work
        max_tokens = min(max_tokens, max(1, math.ceil(sum(lengths) / streams.count)))
    plan = _Plan(lengths, max_tokens, max_items, pads, at_once=streams is not None and streams.count > 1)
    results: dict[T, R] = {}
    with _progress_bar(len(work), shown=progress) as advance:

        def run_next() -> bool:
            batch = plan.take()
            if batch is None:
                return False
            rows = [work[i] for i in batch]
            try:
                with no_fork():
                    outputs = forward(rows)
            except out_of_memory as error:
                plan.halve(batch, error)
                return True
            if len(outputs) != len(batch):
                raise ScoringError(f"a forward pass over {len(batch)} rows returned {len(outputs)} results: report it")
            results.update(zip(rows, outputs))
            with plan.lock:  # tqdm is not made for several threads
                advance(len(batch))
            return True

        if streams is None:
            while run_next():
                pass
        else:
            streams.run(run_next, at_most=len(plan))
            if plan.retry_alone():
                streams.run(run_next, at_most=1)
    return [results[item] for item in items]


class _Plan:
    """The remaining batches of one call, longest first; any thread may take the next.

    Args:
        lengths: Token count per item.
        max_tokens: Budget of one batch, padding included.
        max_items: At most this many items per batch.
        pads: Whether items of different lengths may share a batch.
        at_once: Whether batches run at the same time, so that one may lack the memory that others hold.
    """

    def __init__(
        self, lengths: Sequence[int], max_tokens: int, max_items: int | None, pads: bool, *, at_once: bool
    ) -> None:
        self.lock = threading.Lock()
        self._lengths, self._pads = lengths, pads
        self._at_once = at_once
        self._too_large: list[list[int]] = []
        self._pending = plan_batches(lengths, max_tokens, max_items, pads=pads)[::-1]

    def __len__(self) -> int:
        return len(self._pending)

    def take(self) -> list[int] | None:
        """The next batch; None where none is left."""
        with self.lock:
            return self._pending.pop() if self._pending else None

    def halve(self, batch: list[int], error: BaseException) -> None:
        """Plan a batch that ran out of memory anew, with all that is left, at half its tokens; a single row runs last.

        Raises:
            OutOfMemoryError: It is a single row, and ran alone.
        """
        if len(batch) == 1 and self._at_once:
            self._too_large.append(batch)
            return
        if len(batch) == 1:
            raise OutOfMemoryError(
                f"one row of {self._lengths[batch[0]]} tokens does not fit into memory: "
                "lower max_length, or use a smaller dtype or model"
            ) from error
        with self.lock:
            left = [i for rows in [*self._pending, batch] for i in rows]
            half = max(self._lengths[i] for i in batch) * len(batch) // 2
            lengths = [self._lengths[i] for i in left]
            replanned = plan_batches(lengths, half, max(1, len(batch) // 2), pads=self._pads)
            self._pending = [[left[i] for i in rows] for rows in reversed(replanned)]

    def retry_alone(self) -> bool:
        """Plan the rows that ran out of memory beside others once more; whether there are any."""
        self._pending, self._at_once = self._too_large, False
        return bool(self._pending)


def group_requests(requests: Iterable[Request], max_documents: int) -> Iterator[list[Request]]:
    """Lazily group consecutive requests with the same options until they have ``max_documents`` documents in total.

    Args:
        requests: Read only as far as the next group needs.
        max_documents: A group ends with the request that reaches it.
    """
    group: list[Request] = []
    for request in requests:
        if group and request.options != group[0].options:
            yield group
            group = []
        group.append(request)
        if sum(len(member.documents) for member in group) >= max_documents:
            yield group
            group = []
    if group:
        yield group


class GroupScorer(ABC):
    """A scorer of groups of requests, from which `score` and a lazy `score_many` follow."""

    group_documents: ClassVar[int] = 256
    """How many documents `score_many` collects before it scores them together."""

    @abstractmethod
    def score_group(self, requests: Sequence[Request]) -> Iterable[Scores]:
        """Score requests with the same options together.

        Returns:
            One answer per request, in order.
        """

    def score(self, request: Request) -> Scores:
        """Score one request's documents."""
        return next(iter(self.score_group([request])))

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        """Score requests in groups, so that short ones share batches."""
        for group in group_requests(requests, self.group_documents):
            yield from self.score_group(group)


@contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """A tqdm bar that appears late, only on a terminal's standard error, and is imported on use."""
    if not shown:
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="row", disable=None, delay=1, leave=False) as bar:
        yield bar.update
