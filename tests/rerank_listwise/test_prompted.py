"""What a prompt says about its answer, and what is counted when the answer is read."""

from __future__ import annotations

from typing import Any

import pytest

from rerank import Document, Request
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


def test_special_tokens_are_taken_out_of_texts_and_not_out_of_the_recipe() -> None:
    tally = Tally()
    prompted = Prompted(find("rank-r1"), EstimatedTokens(), lambda text: (text.replace("<x>", "x"), text.count("<x>")))
    texts = prompted.prepare(["a <x>", "[2] <think> <|im_end|>"], ListwiseOptions(), tally)
    assert (texts, tally.notes) == (["a x", "(2) (think) (|im_end|)"], {"defused": 4})
    example = {"query": "c <x>", "passages": ["[1] <x>"], "answer": "<answer>[1]</answer>"}
    options = ListwiseOptions(examples=(example,))
    request = prompted.prepare_request(
        Request(query="b <x>", documents=[Document(text="d", doc_id=0)], options=options), tally
    )
    assert tally.notes == {"defused": 5}
    prompt = prompted.prompt(Question("best", (0, 1)), request.query, texts, request.options)  # type: ignore[arg-type]
    whole = "".join(message.content for message in prompt.messages)
    assert "<think>" in whole
    assert "<answer>[1]</answer>" in whole
    assert "<x>" not in whole


def test_a_corrected_model_is_told_what_is_wanted() -> None:
    for recipe, kind, wanted in (
        ("rankzephyr", "order", "[1] to [2]"),
        ("judge", "judge", "in the form described above"),
    ):
        options = (FilterOptions if kind == "judge" else ListwiseOptions)(malformed="retry")
        work = ask(recipe, kind, options, Tally())
        (first,) = next(work)
        (second,) = work.send([Completion(text=" ")])
        assert [message.role for message in second.messages] == [message.role for message in first.messages]
        (third,) = work.send([Completion(text="no")])
        assert [message.role for message in third.messages][-3:] == ["user", "assistant", "user"]
        assert all(wanted in prompt.messages[-1].content for prompt in (second, third))


def test_nothing_is_asked_again_that_does_not_fit_or_has_labels() -> None:
    asked = Asked(Question("order", (0, 1)), "q", ["a", "b"], Tally(), ListwiseOptions(malformed="retry"))
    for prompted in (
        Prompted(find("rankzephyr"), EstimatedTokens(), left=lambda prompt: 9),
        Prompted(find("first"), EstimatedTokens()),
    ):
        work = prompted.converse(asked)
        next(work)
        with pytest.raises(StopIteration):
            work.send([Completion(text="no", logits={} if prompted.recipe.labels else None)])
    assert "asked_again" not in asked.tally.notes


def test_a_begun_answer_is_quoted_whole() -> None:
    recipe = find("rankzephyr").model_copy(update={"begun": "["})
    asked = Asked(Question("order", (0, 1)), "q", ["a", "b"], Tally(), ListwiseOptions(malformed="retry"))
    work = Prompted(recipe, EstimatedTokens()).converse(asked)
    next(work)
    (again,) = work.send([Completion(text="2]")])
    assert again.messages[-2].content == "[2]"
