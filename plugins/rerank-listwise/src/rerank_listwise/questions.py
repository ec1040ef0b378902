"""What an algorithm asks a model about a query's candidates, and what the model answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["order", "best", "compare", "select", "grade", "judge"]
"""What is asked of the passages: to order them, to name the best, which of two is better, to select a number of them,
to grade each, or to judge for each whether it is relevant."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question about some passages of a query.

    Args:
        kind: What is asked.
        passages: Positions among the query's candidates, in the order in which the model reads them.
        count: How many a ``select`` asks for.
    """

    kind: Kind
    passages: tuple[int, ...]
    count: int = 1

    @property
    def wanted(self) -> int:
        """How many passages an answer has."""
        return {"best": 1, "select": self.count}.get(self.kind, len(self.passages))


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one question.

    Args:
        order: Passages, best first: for ``order`` always all of them, for ``compare`` both, for ``select`` the selected ones, and
            for ``best`` one; for ``grade`` and ``judge`` those with a score. Empty, but for ``order``, if the model names none.
        scores: Each passage's score, where the model gives one: its grade, its verdict, or for ``compare`` the
            probability of being the better one.
        details: What is known of each passage besides, such as a judge's explanation.
        named: How many of ``order`` the model named; the others follow in the order of the question. None means all.
    """

    order: tuple[int, ...]
    scores: Mapping[int, float] | None = None
    details: Mapping[int, Mapping[str, Any]] | None = None
    named: int | None = None


@dataclass(slots=True)
class Tally:
    """What one request cost, and what went wrong in it.

    Args:
        calls: Answers that the model gave.
        rounds: Rounds of questions that followed one another.
        prompt_tokens: Tokens that the model read, as far as they are known.
        completion_tokens: Tokens that it wrote.
        malformed: How often each fault occurred in its answers, by its name.
        notes: Anything else that diagnostics show, by its name.
    """

    calls: int = 0
    rounds: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    malformed: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def count(self, faults: Mapping[str, int]) -> None:
        """Add the faults of one answer."""
        for name, number in faults.items():
            if number:
                self.malformed[name] = self.malformed.get(name, 0) + number

    def note(self, name: str, number: int) -> None:
        """Add to a number that diagnostics show."""
        if number:
            self.notes[name] = self.notes.get(name, 0) + number


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what is needed to answer it.

    Args:
        question: The question.
        query: The query.
        texts: The text of each passage of the question, in its order.
        tally: Counts what the answer costs.
        options: The options of the call: those of the backend and of the generator.
    """

    question: Question
    query: str
    texts: Sequence[str]
    tally: Tally
    options: Any
