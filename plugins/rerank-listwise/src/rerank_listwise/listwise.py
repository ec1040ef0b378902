"""Listwise algorithms: a model orders, selects or grades several passages at once.

Candidates are positions from 0 in the order of the first stage. An algorithm returns all of them, best first, or what each was
given.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from rerank_listwise.questions import Question
from rerank_listwise.rounds import Algorithm, together


def sliding_window(candidates: Sequence[int], *, size: int, stride: int, passes: int = 1) -> Algorithm[list[int]]:
    """Order windows from the last candidates to the first, so that the best move up through the overlaps (RankGPT).

    The window at the head is as long as the others where there are enough candidates, and there is exactly one.

    Args:
        candidates: In first-stage order.
        size: Passages per window.
        stride: How many places each window is nearer the top than the one before it; at most ``size``.
        passes: How often the whole list is gone through.
    """
    order = list(candidates)
    for _ in range(passes):
        for start, end in windows(len(order), size, stride):
            (answer,) = yield [Question("order", tuple(order[start:end]))]
            order[start:end] = answer.order
    return order


def windows(count: int, size: int, stride: int) -> Iterator[tuple[int, int]]:
    """Start and end of each window over a list, from its end to its head, where the last one is clipped."""
    end = count
    while True:
        start = max(0, end - size)
        yield start, end
        if start == 0:
            return
        end -= stride


def top_down(candidates: Sequence[int], *, size: int, pivot: int, arrangements: int = 3) -> Algorithm[list[int]]:
    """Keep of every window what beats the pivot of the first one, in parallel, and order what is kept (TDPart, arXiv 2405.14589).

    The best ``size // 2`` candidates come first. The paper goes on with the kept ones as with a new list, window after window,
    and stops as soon as they fill one. Here no window keeps more than half of its passages, what is kept is halved in
    parallel until it fits into one window, and that one is asked about in several arrangements: so it takes fewer rounds, and
    a model that errs loses less.

    Args:
        candidates: In first-stage order.
        size: Passages per window.
        pivot: The rank in the first window, from 1, of the passage that all the others are compared with.
        arrangements: In how many arrangements the last window is asked about.
    """
    head, rest = candidates[:size], candidates[size:]
    if not rest:
        return (yield from rearranged(head, arrangements))
    (first,) = yield [Question("order", tuple(head))]
    at = first.order[pivot - 1]
    parts = [(at, *rest[start : start + size - 1]) for start in range(0, len(rest), size - 1)]
    orders = [first.order, *(answer.order for answer in (yield [Question("order", part) for part in parts]))]
    behind = {passage: rank - order.index(at) for order in orders for rank, passage in enumerate(order)}
    wanted = size // 2
    kept = {passage for order in orders for passage in order[:wanted] if behind[passage] < 0}
    if (missing := wanted - len(kept)) > 0:  # the pivot and what may come next, of every window
        kept |= {passage for passage in candidates if 0 <= behind[passage] < missing}
    best = yield from _halve([passage for passage in candidates if passage in kept], size, arrangements)
    left = sorted((passage for passage in candidates if passage not in kept), key=lambda passage: behind[passage])
    return [*best, *left]


def _halve(candidates: Sequence[int], size: int, arrangements: int) -> Algorithm[list[int]]:
    """Keep the better half of every window, in parallel, until one window holds what is left, and order that."""
    left, lost = list(candidates), list[int]()
    while len(left) > size:
        count = math.ceil(len(left) / size)
        answers = yield [Question("order", tuple(left[window::count])) for window in range(count)]
        ranks = {passage: rank for answer in answers for rank, passage in enumerate(answer.order)}
        lost = sorted((passage for passage in left if ranks[passage] >= size // 2), key=ranks.__getitem__) + lost
        left = [passage for passage in left if ranks[passage] < size // 2]
    return [*(yield from rearranged(left, arrangements)), *lost]


def rearranged(candidates: Sequence[int], count: int) -> Algorithm[list[int]]:
    """Order passages by the sum of their ranks in answers about several arrangements (permutation self-consistency, 2310.07712).

    The first arrangement is that of ``candidates``, the second its reverse, and the others are shuffled. Passages that an
    answer does not name follow in the order of ``candidates``.
    """
    listed = [list(candidates), list(reversed(candidates))][:count]
    for seed in range(len(listed), count):
        listed.append(random.Random(seed).sample(list(candidates), len(candidates)))  # noqa: S311 (an arrangement, no secret)
    place = {passage: n for n, passage in enumerate(candidates)}
    ranks = dict.fromkeys(candidates, 0)
    for answer in (yield [Question("order", tuple(one)) for one in listed]):
        named = len(answer.order) if answer.named is None else answer.named
        for rank, passage in enumerate((*answer.order[:named], *sorted(answer.order[named:], key=place.__getitem__))):
            ranks[passage] += rank
    return sorted(candidates, key=lambda passage: ranks[passage])


def tournament(candidates: Sequence[int], *, size: int, runs: int, seed: int) -> Algorithm[list[int]]:
    """Select the better part of each group again and again, in several runs, and sum the points (TourRank, arXiv 2406.11678).

    A passage has a point for every selection that it survives. Of 100 candidates 50, 20, 10, 5 and 2 are left.

    Args:
        candidates: In first-stage order, which decides between equal points.
        size: At most this many passages per group.
        runs: How many tournaments run side by side.
        seed: Seed of the order within groups, which differs between runs.
    """
    points = dict.fromkeys(candidates, 0)
    for selected in (yield from together([_one_tournament(candidates, size, f"{seed}-{run}") for run in range(runs)])):
        for passage in selected:
            points[passage] += 1
    return sorted(candidates, key=lambda passage: -points[passage])


def _one_tournament(candidates: Sequence[int], size: int, seed: str) -> Algorithm[list[int]]:
    """All selections of one tournament; a passage occurs once per stage that it survives."""
    shuffle = random.Random(seed).shuffle  # noqa: S311 (a fair order, no secret)
    left, selected = list(candidates), []
    last = 1 if len(left) == 2 else 2
    while len(left) > last:
        groups, kept = _next_stage(len(left), size)
        parts = [left[group::groups] for group in range(groups)]
        for part in parts:
            shuffle(part)
        answers = yield [Question("select", tuple(part), max(1, min(kept, len(part) - 1))) for part in parts]
        chosen = {passage for answer in answers for passage in answer.order}
        left = [passage for passage in left if passage in chosen]
        selected += left
    return selected


def _next_stage(count: int, size: int) -> tuple[int, int]:
    """How many groups a stage has, and how many passages of each it keeps; from 100 to 2 as in the paper."""
    if count > 50:
        longest, kept = 20, 10
    elif count > 20:
        longest, kept = 10, 4
    else:
        longest, kept = 20, next(kept for kept in (10, 5, 2, 1) if kept < count)
    longest = min(longest, size)
    groups = math.ceil(count / longest)
    if groups == 1 and longest == 20:
        return groups, kept
    return groups, max(1, min(kept, longest // 2))


def grade_groups(candidates: Sequence[int], *, size: int, epochs: int, seed: int) -> Algorithm[dict[int, float]]:
    """Grade groups of passages, in several shuffled divisions into groups, and average the grades (GroupRank).

    Args:
        candidates: In first-stage order.
        size: Passages per group.
        epochs: How many divisions there are.
        seed: Seed of the divisions.

    Returns:
        The mean of the grades that each candidate was given; 0 for one that no answer grades.
    """
    questions = []
    for epoch in range(epochs):
        order = list(candidates)
        random.Random(f"{seed}-{epoch}").shuffle(order)  # noqa: S311 (a fair order, no secret)
        questions += [Question("grade", tuple(order[start : start + size])) for start in range(0, len(order), size)]
    grades: dict[int, list[float]] = {passage: [] for passage in candidates}
    for answer in (yield questions):
        for passage, grade in (answer.scores or {}).items():
            grades[passage].append(grade)
    return {passage: fmean(given) if given else 0.0 for passage, given in grades.items()}


def judge_groups(candidates: Sequence[int], *, size: int) -> Algorithm[dict[int, tuple[float, Mapping[str, Any]]]]:
    """Judge all candidates in one round.

    Args:
        candidates: In first-stage order.
        size: Passages per question.

    Returns:
        The score and the details of each candidate that an answer judges.
    """
    groups = [tuple(candidates[start : start + size]) for start in range(0, len(candidates), size)]
    judged: dict[int, tuple[float, Mapping[str, Any]]] = {}
    for answer in (yield [Question("judge", group) for group in groups]):
        for passage, score in (answer.scores or {}).items():
            judged[passage] = (score, (answer.details or {}).get(passage, {}))
    return judged


def one_pass(candidates: Sequence[int]) -> Algorithm[dict[int, float]]:
    """Grade all candidates at once.

    Returns:
        The grade of each candidate.
    """
    (answer,) = yield [Question("grade", tuple(candidates))]
    return dict(answer.scores or {})
