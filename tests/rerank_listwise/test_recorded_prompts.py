"""Our prompts equal the recorded ones byte for byte, and every recorded answer is read as its recorders say."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from recorded import Call, read_calls

from rerank_listwise import Recipe
from rerank_listwise.permutation import parse_permutation
from rerank_listwise.recipes import find

_QUERY = re.compile(r"(?:search query|relevance to query): (.*?)\.(?:\n\n\[1\]| ASSISTANT:)", re.DOTALL)


def in_vicunas_form(recipe: Recipe, query: str, passages: tuple[str, ...]) -> str:
    """The conversation as FastChat writes it for Vicuna 1.1 and later."""
    system, *turns = recipe.prompt(query, passages).messages
    said = system.content
    for turn in turns:
        said += f" USER: {turn.content}" if turn.role == "user" else f" ASSISTANT: {turn.content}</s>"
    return said.replace("</s> USER:", "</s>USER:") + " ASSISTANT:"


def asked_in(call: Call) -> tuple[str, tuple[str, ...]]:
    found = _QUERY.search(call.prompt)
    assert found is not None
    return found[1], call.passages


@pytest.mark.parametrize(
    ("recording", "recipe", "count"),
    [("rankvicuna-20", "rankvicuna", 43), ("rankvicuna-100", "rankvicuna-chat", 387)],
)
def test_prompts_of_rankvicuna(shared: Path, recording: str, recipe: str, count: int) -> None:
    calls = read_calls(shared, recording)
    assert len(calls) == count
    for call in calls:
        assert in_vicunas_form(find(recipe), *asked_in(call)) == call.prompt


@pytest.mark.parametrize(
    ("recording", "recipe", "end"),
    [("vicuna-ckpt800-100", "rankvicuna", "  ASSISTANT:"), ("vicuna-v1.5-100", "vicuna-turns", " ASSISTANT:")],
)
def test_prompts_that_lack_the_assistants_turn(shared: Path, recording: str, recipe: str, end: str) -> None:
    """Their recorders left it out: a space stands at the end."""
    calls = read_calls(shared, recording)
    assert len(calls) == 387
    for call in calls:
        assert in_vicunas_form(find(recipe), *asked_in(call)).removesuffix(end) + " " == call.prompt


def test_recorded_passages_are_clean(shared: Path) -> None:
    """The recorders changed identifiers in passages as we do, but for lists of them in one pair of brackets."""
    recipe = find("rankvicuna")
    for call in read_calls(shared, "rankvicuna-20"):
        for passage in call.passages:
            recorded = " ".join(passage.split())
            assert recipe.clean(passage) == (recorded.replace("[2, 3]", "(2, 3)"), recorded.count("[2, 3]"))


CLEAN = re.compile(r"\s*\[\d+\](?: > \[\d+\])*\s*")


@pytest.mark.parametrize(
    ("recording", "clean", "faults"),
    [
        ("rankvicuna-20", 43, {(): 43}),
        ("rankvicuna-100", 387, {(): 387}),
        (
            "vicuna-ckpt800-100",
            219,
            {(): 220, ("duplicates",): 125, ("duplicates", "missing"): 38, ("missing",): 4},
        ),
        (
            "vicuna-v1.5-100",
            6,
            {
                (): 6,
                ("chatter",): 359,
                ("chatter", "missing"): 16,
                ("chatter", "duplicates", "missing"): 2,
                ("chatter", "duplicates", "missing", "unknown"): 1,
                ("unreadable",): 3,
            },
        ),
    ],
)
def test_recorded_answers(shared: Path, recording: str, clean: int, faults: dict[tuple[str, ...], int]) -> None:
    """An answer is clean, as the recorders count, if it is nothing but every identifier once, each in brackets.

    Ours has no faults in these, and in one more of vicuna-ckpt800-100, which lacks the first bracket: ``11 > [1] > …``.
    """
    counted: Counter[tuple[str, ...]] = Counter()
    strict = 0
    for call in read_calls(shared, recording):
        read = parse_permutation(call.response, len(call.passages))
        assert sorted(read.order) == list(range(20))
        found = tuple(sorted(name for name, number in read.faults.items() if number))
        counted[found] += 1
        is_clean = read.is_whole and CLEAN.fullmatch(call.response) is not None
        strict += is_clean
        assert not is_clean or not found
        assert found or is_clean or re.match(r"\d+ > \[", call.response)
    assert strict == clean
    assert counted == faults
