"""Setwise algorithms: a model names the best of a few passages (arXiv 2310.09497), and sorting needs fewer questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rerank_listwise.questions import Question
from rerank_listwise.rounds import Algorithm, together


def heapsort(candidates: Sequence[int], *, children: int, top: int) -> Algorithm[list[int]]:
    """Take the best from a heap in which every node beats its children, until ``top`` are taken.

    Args:
        candidates: In first-stage order, which those that are not taken keep.
        children: Children per node; a question has one passage more.
        top: How many places are settled.
    """
    return pop_best(candidates, _best_of, children=children, top=top)


def _best_of(group: Sequence[int], otherwise: int | None = None) -> Algorithm[int]:
    """The best of some passages; where the answer names none it is ``otherwise``, by default the first of the first stage."""
    (answer,) = yield [Question("best", tuple(group))]
    if answer.order:
        return answer.order[0]
    return min(group) if otherwise is None else otherwise


def pop_best(
    candidates: Sequence[int], best_of: Callable[[Sequence[int]], Algorithm[int]], *, children: int, top: int
) -> Algorithm[list[int]]:
    """Build a heap and take the best from it, ``top`` times.

    Nodes of one level do not depend on one another, so that a level is built in as many rounds as one of its nodes needs.

    Args:
        candidates: Positions in the first stage, whose order those that are not taken keep.
        best_of: Finds the best of a node and its children, given in this order; of equal ones that of the first stage's first.
        children: Children per node.
        top: How many to take.
    """
    heap = list(candidates)
    for level in _levels(len(heap), children):
        yield from together([_sift_down(heap, node, best_of, children) for node in level])
    taken: list[int] = []
    while heap and len(taken) < top:
        taken.append(heap[0])
        last = heap.pop()
        if heap and len(taken) < top:
            heap[0] = last
            yield from _sift_down(heap, 0, best_of, children)
    settled = {*taken}
    return taken + [passage for passage in candidates if passage not in settled]


def _levels(count: int, children: int) -> list[range]:
    """The nodes with children of each level of a heap, from the lowest level to the root."""
    levels, start, width = [], 0, 1
    parents = (count - 2) // children + 1
    while start < parents:
        levels.append(range(start, min(start + width, parents)))
        start, width = start + width, width * children
    return levels[::-1]


def _sift_down(
    heap: list[int], node: int, best_of: Callable[[Sequence[int]], Algorithm[int]], children: int
) -> Algorithm[None]:
    """Move a node down until it beats its children."""
    while (first := node * children + 1) < len(heap):
        group = [node, *range(first, min(first + children, len(heap)))]
        best = yield from best_of([heap[n] for n in group])
        winner = next(n for n in group if heap[n] == best)
        if winner == node:
            return
        heap[node], heap[winner] = heap[winner], heap[node]
        node = winner


def insertion(candidates: Sequence[int], *, children: int, top: int) -> Algorithm[list[int]]:
    """Sort the first ``top`` candidates, then insert each later one that beats the last of them (arXiv 2504.10509).

    Args:
        candidates: In first-stage order, which those that are not taken keep.
        children: How many candidates are compared at once with the last of the best; a question has one passage more.
        top: How many places are settled.
    """
    best = yield from heapsort(candidates[:top], children=children, top=top)
    waiting = list(candidates[top:])
    while waiting:
        group = waiting[:children]
        winner = yield from _best_of([best[-1], *group], otherwise=best[-1])
        if winner == best[-1]:
            del waiting[: len(group)]
            continue
        waiting.remove(winner)
        place = yield from _find_place(winner, best[:-1])
        best = [*best[:place], winner, *best[place:-1]]
    settled = {*best}
    return best + [passage for passage in candidates if passage not in settled]


def _find_place(passage: int, ordered: Sequence[int]) -> Algorithm[int]:
    """Where a passage belongs in an ordered list, by bisection."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if (yield from _best_of([ordered[middle], passage], otherwise=ordered[middle])) == passage:
            high = middle
        else:
            low = middle + 1
    return low
