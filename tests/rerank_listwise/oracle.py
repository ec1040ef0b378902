"""A model with known grades and known noise, which answers any question; a module, not tests."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rerank_listwise.questions import Answer, Question
from rerank_listwise.rounds import Algorithm, run, without_repeats


class Oracle:
    """Answers by grades to which it adds noise, the same for the same question.

    Args:
        grades: The true grade of each candidate.
        noise: Standard deviation of what is added to each grade, drawn anew for every question.
    """

    def __init__(self, grades: Sequence[float], noise: float = 0.0) -> None:
        self.grades, self.noise = grades, noise
        self.calls = self.rounds = 0
        self.asked: list[Sequence[Question]] = []

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        self.rounds += 1
        self.calls += len(questions)
        self.asked.append(questions)
        return [self.answer(question) for question in questions]

    def answer(self, question: Question) -> Answer:
        draw = random.Random(repr((question.kind, question.passages))).gauss
        seen = {passage: self.grades[passage] + draw(0, self.noise) for passage in question.passages}
        order = tuple(sorted(question.passages, key=lambda passage: -seen[passage]))
        return Answer(order[: question.wanted], seen if question.kind == "grade" else None)


def solve(algorithm: Algorithm, oracle: Oracle) -> list[int]:
    """All candidates, best first."""
    outcome = run(without_repeats(algorithm), oracle)
    return outcome if isinstance(outcome, list) else sorted(outcome, key=lambda passage: -outcome[passage])
