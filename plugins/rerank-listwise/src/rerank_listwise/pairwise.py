"""Pairwise algorithms: a model says which of two passages is better, always asked in both orders (PRP, arXiv 2306.17563)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from rerank_listwise.questions import Answer, Question
from rerank_listwise.rounds import Algorithm
from rerank_listwise.setwise import pop_best


def all_pairs(candidates: Sequence[int]) -> Algorithm[dict[int, float]]:
    """Compare every passage with every other, in one round.

    Returns:
        For each candidate the sum of its preferences: 1 for a win, 0.5 for a tie, or the mean probability of winning where the
        model gives one.
    """
    pairs = list(combinations(candidates, 2))
    answers = yield [question for pair in pairs for question in _both_orders(*pair)]
    sums = dict.fromkeys(candidates, 0.0)
    for n, (first, second) in enumerate(pairs):
        preference = _preference(first, second, answers[2 * n : 2 * n + 2])
        sums[first] += preference
        sums[second] += 1 - preference
    return sums


def heapsort(candidates: Sequence[int], *, top: int) -> Algorithm[list[int]]:
    """Take the best from a binary heap until ``top`` are taken.

    Args:
        candidates: In first-stage order, which those that are not taken keep, and which decides ties.
        top: How many places are settled.
    """
    return pop_best(candidates, _best_of_three, children=2, top=top)


def bubble(candidates: Sequence[int], *, top: int) -> Algorithm[list[int]]:
    """Let the best rise from the last place to the first by comparing neighbours, once per place (PRP-Sliding-K).

    Args:
        candidates: In first-stage order, which ties keep.
        top: How many places are settled.
    """
    order = list(candidates)
    for place in range(min(top, len(order) - 1)):
        swapped = False
        for upper in range(len(order) - 2, place - 1, -1):
            if (yield from compare(order[upper + 1], order[upper])) > 0.5:
                order[upper], order[upper + 1] = order[upper + 1], order[upper]
                swapped = True
        if not swapped:
            break
    return order


def compare(passage: int, other: int) -> Algorithm[float]:
    """How far the model prefers a passage to another, from 0 to 1; 0.5 if its two answers disagree."""
    answers = yield _both_orders(passage, other)
    return _preference(passage, other, answers)


def _best_of_three(group: Sequence[int]) -> Algorithm[int]:
    """The best of a node and its children: the better child is compared with the node."""
    best, *others = group[::-1]
    for other in others:
        preference = yield from compare(best, other)
        if preference < 0.5 or (preference == 0.5 and other < best):
            best = other
    return best


def _both_orders(first: int, second: int) -> list[Question]:
    return [Question("compare", (first, second)), Question("compare", (second, first))]


def _preference(first: int, second: int, answers: Sequence[Answer]) -> float:
    """How far the first of two passages is preferred, from 0 to 1: the mean of both answers."""
    return sum(
        answer.scores[first] if answer.scores is not None else 0.5 if not answer.order else answer.order[0] == first
        for answer in answers
    ) / len(answers)
