"""Rows into batches: longest first, by token budget, halved when memory runs out, results in input order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, TypeVar

from rerank.errors import OutOfMemoryError, ScoringError
from rerank.protocols import Request, Scores

T = TypeVar("T")
R = TypeVar("R")


def plan_batches(lengths: Sequence[int], max_tokens: int, max_items: int | None = None) -> list[list[int]]:
    """Group rows so that each batch, padded to its longest row, holds at most ``max_tokens`` tokens.

    Args:
        lengths: Tokens a row.
        max_tokens: Budget of one batch, padding included; a longer row is a batch of its own.
        max_items: At most this many rows a batch.

    Returns:
        Positions, each once, longest rows first: rows of like length share a batch, and memory peaks at the start.
    """
    batches: list[list[int]] = []
    capacity = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or len(batches[-1]) >= capacity:
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
    out_of_memory: tuple[type[BaseException], ...] = (),
    progress: bool = False,
) -> list[R]:
    """Run ``forward`` over all items in batches.

    When a batch runs out of memory, it and all that is left are planned anew with half its tokens.

    Args:
        items: What ``forward`` takes, one a row.
        lengths: Tokens an item.
        forward: From a batch to one result an item.
        max_tokens: Budget of one batch, padding included.
        max_items: At most this many items a batch.
        out_of_memory: The exceptions that mean just that, such as ``torch.OutOfMemoryError``; others propagate.
        progress: Show a bar on standard error once the work has taken a second, if that is a terminal.

    Returns:
        One result an item, in input order.

    Raises:
        OutOfMemoryError: One item alone does not fit.
        ScoringError: There are not as many ``lengths`` as items, or ``forward`` returned not as many results.
    """
    if len(lengths) != len(items):
        raise ScoringError(f"{len(items)} items came with {len(lengths)} lengths: give one for each")
    results: dict[int, R] = {}
    pending = plan_batches(lengths, max_tokens, max_items)[::-1]
    with _progress_bar(len(items), shown=progress) as advance:
        while pending:
            batch = pending.pop()
            try:
                outputs = forward([items[i] for i in batch])
            except out_of_memory as error:
                if len(batch) == 1:
                    raise OutOfMemoryError(
                        f"one row of {lengths[batch[0]]} tokens does not fit into memory: "
                        "lower max_length, or use a smaller dtype or model"
                    ) from error
            else:
                if len(outputs) != len(batch):
                    raise ScoringError(f"a forward pass over {len(batch)} rows returned {len(outputs)}: report it")
                results.update(zip(batch, outputs))
                advance(len(batch))
                continue
            left = [i for rows in [*pending, batch] for i in rows]
            half = max(lengths[i] for i in batch) * len(batch) // 2
            replanned = plan_batches([lengths[i] for i in left], half, max(1, len(batch) // 2))
            pending = [[left[i] for i in rows] for rows in reversed(replanned)]
    return [results[i] for i in range(len(items))]


def group_requests(requests: Iterable[Request], max_documents: int) -> Iterator[list[Request]]:
    """Lazily gather requests with the same options until they hold ``max_documents`` documents together.

    Args:
        requests: Taken only as far as the next group needs.
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
    """A scorer that is written for groups of requests; `score` and a lazy `score_many` follow from that."""

    group_documents: ClassVar[int] = 256
    """Documents that `score_many` gathers before it scores them together."""

    @abstractmethod
    def score_group(self, requests: Sequence[Request]) -> Iterable[Scores]:
        """Score requests that share their options, in one go.

        Returns:
            One answer a request, in order.
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
    """tqdm with the manners of a library: late, on a terminal's standard error only, imported on use."""
    if not shown:
        yield lambda done: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="row", disable=None, delay=1, leave=False) as bar:
        yield bar.update
