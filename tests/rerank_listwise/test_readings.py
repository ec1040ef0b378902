"""Verdicts, grades, ties and choices as models write them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import ValidationError

from rerank_listwise import Recipe, Turn
from rerank_listwise.generators.measure import EstimatedTokens
from rerank_listwise.options import ListwiseOptions
from rerank_listwise.prompted import Prompted
from rerank_listwise.questions import Question
from rerank_listwise.readings import Reading
from rerank_listwise.recipe import Completion
from rerank_listwise.recipes import find

ASK = (Turn(role="user", text="{query} {passages}"),)


def read(recipe: str, text: str, *passages: int) -> Reading:
    """What a text says about passages, asked with a recipe."""
    known = find(recipe)
    return Prompted(known, EstimatedTokens()).read(Completion(text=text), Question(known.kind, passages))


@pytest.mark.parametrize(
    "text",
    [
        '{"verdicts": [{"passage": 1, "relevant": true, "explanation": "why"}]}',
        '{"verdicts": [{"passage": "1", "relevant": "true", "explanation": "why"}]}',
        '```json\n{"verdicts": [{"passage": 1, "relevant": true, "explanation": "why"}]}\n```\nHope {that} helps',
        'Here {it} is: [{"passage": 1, "relevant": true, "explanation": "why"}]',
        '{"verdicts": [{"passage": "[1]", "relevant": true, "explanation": "why"}]}',
        'As in {}: {"verdicts": [{"passage": 1, "relevant": true, "explanation": "why"}]}',
        '{"relevant": true, "explanation": "why"}',
        "[1] RELEVANT: why",
        "**[1]** - **Relevant**: why",
        "1. RELEVANT: why",
        "Passage 1: RELEVANT: why",
        "RELEVANT: why",
        "<think>{}</think>［1］ RELEVANT: why",
    ],
)
def test_a_verdict(text: str) -> None:
    reading = read("judge", text, 7)
    assert (reading.answer.scores, reading.answer.details) == ({7: 1.0}, {7: {"relevant": True, "explanation": "why"}})
    assert reading.is_whole


@pytest.mark.parametrize("text", ["", "It is relevant.", "{}", "[[]]", '{"verdicts": 3}', "{" * 99, '{"passage": 1}'])
def test_no_verdict(text: str) -> None:
    assert read("judge", text, 7).faults == {"unreadable": 1}


def test_verdicts_one_by_one() -> None:
    said = '{"passage": 2, "relevant": true}\n{"passage": 1, "relevant": false}'
    assert read("judge-in-json", said, 7, 8).answer.scores == {8: 1.0, 7: 0.0}


@pytest.mark.parametrize("filler", ["\n", " ", "\t", "*", "1", "[1]\n", "passage ", "relevant ", "{", '{"a":', "not "])
@pytest.mark.parametrize("recipe", ["judge", "judge-in-json", "grouprank", "rankzephyr", "setwise"])
def test_endless_answers_are_read_at_once(recipe: str, filler: str) -> None:
    started = time.perf_counter()
    read(recipe, '{"verdicts": [' + filler * 20_000, 7, 8)
    assert time.perf_counter() - started < 5  # a pattern that tries every division would take hours


def test_an_explanation_is_kept_word_for_word() -> None:
    said = "「大熊猫」は①中国　＂ and </think>"
    text = f'{{"verdicts": [{{"passage": 1, "relevant": false, "explanation": "{said}"}}]}}'
    assert read("judge", text, 7).answer.details == {7: {"relevant": False, "explanation": said}}


def test_a_verdict_without_a_number_says_nothing_about_two_passages() -> None:
    assert read("judge", "RELEVANT: why", 7, 8).faults == {"unreadable": 1}


@pytest.mark.parametrize(
    "text",
    [
        '{"[1]": 5, "[2]": 10}',
        '{"[1]": "5", "[2]": "10"}',
        '{"1": 5, "2": 10}',
        "**[1]**: 5\n**[2]**: 10",
        "[1] - 5\n[2] - 10",
    ],
)
def test_grades(text: str) -> None:
    reading = read("grouprank", f"<reason>[1]: 9</reason><answer>{text}</answer>", 7, 8)
    assert (reading.answer.scores, reading.answer.order) == ({7: 0.5, 8: 1.0}, (8, 7))


def test_tied_passages_keep_the_order_of_the_first_stage_and_the_last_line_counts() -> None:
    assert read("rank-k", "[1] > [2]\n[3] > [4] = [2] = [1]", 9, 4, 7, 6).answer.order == (7, 4, 6, 9)


@pytest.mark.parametrize(
    ("said", "order"),
    [
        ("[3] > [2] = [1]\n\nI considered 2 passages.", (7, 4, 9)),
        ("[3] > [2] = [1]\n\n**Explanation**\nPassage 2 is irrelevant.", (7, 4, 9)),
        ("[3] >\n[1] = [2]", (7, 4, 9)),
        ("1. [3]\n2. [2] = [1]", (7, 4, 9)),
        ("[3] = [2] = [1]", (4, 7, 9)),
    ],
)
def test_what_stands_around_a_ranking_with_ties(said: str, order: tuple[int, ...]) -> None:
    assert read("rank-k", said, 9, 4, 7).answer.order == order


@pytest.mark.parametrize(
    "recipe",
    [
        {"kind": "grade"},
        {"kind": "judge"},
        {"reads": "grades"},
        {"kind": "grade", "reads": "grades", "letters": True},
        {"kind": "grade", "reads": "grades", "structured": True},
        {"window_size": 4, "stride": 5},
    ],
)
def test_a_recipe_that_could_not_be_read_is_refused(recipe: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"reads|stride"):
        Recipe(name="mine", turns=ASK, **recipe)


def test_windows_of_a_recipe_overlap_by_half() -> None:
    recipe = Recipe(name="mine", turns=ASK, window_size=4)
    assert ListwiseOptions().windows_for(recipe.window_size, recipe.stride) == (4, 2)


def test_numbers_are_labels_while_they_have_one_digit() -> None:
    assert Recipe(name="mine", turns=ASK, labels=True).most_passages == 9
