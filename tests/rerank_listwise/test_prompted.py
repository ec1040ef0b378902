"""What a prompt says about its answer, and what is counted when the answer is read."""

from __future__ import annotations

from typing import Any

import pytest

from rerank_listwise import Completion
from rerank_listwise.generators.measure import EstimatedTokens
from rerank_listwise.options import FilterOptions, ListwiseOptions, PromptOptions
from rerank_listwise.prompted import Prompted
from rerank_listwise.questions import Asked, Question, Tally
from rerank_listwise.recipes import find


def ask(recipe: str, kind: Any, options: PromptOptions, tally: Tally) -> Any:
    """A conversation about two passages."""
    asked = Asked(Question(kind, (0, 1)), "what is a panda?", ["A bear.", "A car."], tally, options)
    return Prompted(find(recipe), EstimatedTokens()).converse(asked)


@pytest.mark.parametrize(
    ("recipe", "kind", "options", "usual", "limit"),
    [
        ("rankzephyr", "order", ListwiseOptions(), 16 + 2 * 8, None),
        ("judge", "judge", FilterOptions(), 16 + 2 * 96, None),
        ("reasonrank", "order", ListwiseOptions(), 3172, 3172),
        ("reasonrank", "order", ListwiseOptions(max_new_tokens=9), 9, 9),
    ],
)
def test_how_long_an_answer_is(recipe: str, kind: Any, options: PromptOptions, usual: int, limit: int | None) -> None:
    (prompt,) = next(ask(recipe, kind, options, Tally()))
    assert (prompt.usual_tokens, prompt.max_new_tokens) == (usual, limit)


def test_what_a_writer_defuses_is_counted() -> None:
    tally = Tally()
    work = ask("rankzephyr", "order", ListwiseOptions(malformed="retry"), tally)
    next(work)
    work.send([Completion(text="no", defused=3)])
    with pytest.raises(StopIteration):
        work.send([Completion(text="[2] > [1]", defused=2)])
    assert tally.notes == {"defused": 5, "asked_again": 1}
