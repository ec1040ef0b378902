"""The scheduler: work that goes on in rounds of independent items, which are done together.

An algorithm is a generator: it yields the questions of a round, which do not depend on one another, is sent their answers in
the same order, and returns its result. It knows nothing of how they are answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from rerank_listwise.questions import Answer, Question

I = TypeVar("I")  # noqa: E741 (the one letter for what a work asks for)
R = TypeVar("R")
J = TypeVar("J")
S = TypeVar("S")
V = TypeVar("V")

Work: TypeAlias = Generator[Sequence[I], Sequence[R], V]
"""Yields rounds of items, is sent one result per item, and returns a value."""

Algorithm: TypeAlias = Work[Question, Answer, V]


def together(works: Sequence[Work[I, R, V]]) -> Work[I, R, list[V]]:
    """Several works as one: each of its rounds is a round of every work that still goes on.

    Args:
        works: The works; they may take different numbers of rounds.

    Returns:
        What each work returns, in order.
    """
    values: dict[int, V] = {}

    def advance(sent: Mapping[int, Any]) -> dict[int, Sequence[I]]:
        """Send works their results; returns what they ask for next."""
        asked = {}
        for n, results in sent.items():
            try:
                asked[n] = works[n].send(results)
            except StopIteration as end:
                values[n] = end.value
        return asked

    asked = advance(dict.fromkeys(range(len(works))))
    while asked:
        results = iter((yield [item for items in asked.values() for item in items]))
        asked = advance({n: [next(results) for _ in items] for n, items in asked.items()})
    return [values[n] for n in range(len(works))]


def through(work: Work[I, R, V], do: Callable[[Sequence[I]], Work[J, S, Sequence[R]]]) -> Work[J, S, V]:
    """A work whose rounds are done by other works; ``do`` starts the one whose value are the results of a round."""
    results: Any = None
    while True:
        try:
            items = work.send(results)
        except StopIteration as end:
            value: V = end.value
            return value
        results = yield from do(items)


def translate(work: Work[I, R, V], how: Callable[[I], Work[J, S, R]]) -> Work[J, S, V]:
    """A work in terms of another: each item of a round becomes a work of its own, and these go on together.

    Args:
        work: The work.
        how: Starts the work whose value is the result of an item.
    """
    return through(work, lambda items: together([how(item) for item in items]))


def without_repeats(work: Work[I, R, V]) -> Work[I, R, V]:
    """A work that asks for each item only once, and is sent the first result again; items must be hashable."""
    known: dict[I, R] = {}

    def ask_new(items: Sequence[I]) -> Work[I, R, Sequence[R]]:
        new = [item for item in dict.fromkeys(items) if item not in known]
        if new:
            known.update(zip(new, (yield new)))
        return [known[item] for item in items]

    return through(work, ask_new)


def run(work: Work[I, R, V], do: Callable[[Sequence[I]], Sequence[R]]) -> V:
    """Run a work to its end; ``do`` takes the items of a round and returns one result per item."""
    results: Any = None
    while True:
        try:
            items = work.send(results)
        except StopIteration as end:
            value: V = end.value
            return value
        results = do(items)


async def arun(work: Work[I, R, V], do: Callable[[Sequence[I]], Awaitable[Sequence[R]]]) -> V:
    """Like `run`, where ``do`` is asynchronous."""
    results: Any = None
    while True:
        try:
            items = work.send(results)
        except StopIteration as end:
            value: V = end.value
            return value
        results = await do(items)
