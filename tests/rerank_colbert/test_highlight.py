"""A document's text in pieces, each with its share of the score."""

from __future__ import annotations

from typing import Any

import pytest
from rankings import match

from rerank_colbert.highlight import Piece, highlight, outside, shorten


def weights(text: str, *matches: dict[str, Any]) -> list[tuple[str, float]]:
    pieces = highlight(text, matches)
    assert "".join(piece.text for piece in pieces) == text
    return [(piece.text, pytest.approx(piece.weight)) for piece in pieces]


def test_a_token_weighs_the_sum_of_its_matches_relative_to_the_largest() -> None:
    assert weights(
        "bees make honey",
        match("bees", "bees", 0, 4, 0.8),
        match("[MASK]", "honey", 10, 15, 0.5),
        match("food", "honey", 10, 15, 0.5),
        match("[MASK]", "honey", 10, 15, -0.3),
    ) == [("bees", 0.8), (" make ", 0.0), ("honey", 1.0)]


def test_a_piece_knows_its_matches() -> None:
    (first, rest) = highlight("bees fly", [match("bee", "bees", 0, 4, 0.8), match("fly", "bees", 0, 4, -0.1)])
    assert [own["query"] for own in first.matches] == ["bee", "fly"]
    assert rest == Piece(" fly", 0.0, ())


def test_parts_of_one_word_are_neighbours() -> None:
    assert weights("beekeeping", match("a", "bee", 0, 3, 1), match("b", "##keeping", 3, 10, 0.5)) == [
        ("bee", 1.0),
        ("keeping", 0.5),
    ]


def test_where_spans_overlap_the_heaviest_counts() -> None:
    assert weights("abcdef", match("q", "abcd", 0, 4, 0.5), match("r", "cdef", 2, 6, 1.0)) == [
        ("ab", 0.5),
        ("cd", 1.0),
        ("ef", 1.0),
    ]


@pytest.mark.parametrize("span", [(None, None), (7, 9), (4, 4), (3, 1), (-5, 0)])
def test_a_span_without_text_is_outside(span: tuple[int | None, int | None]) -> None:
    matches = [match("q", "[CLS]", *span, 0.9)]
    assert highlight("bees", matches) == [Piece("bees", 0.0, ())]
    assert outside("bees", matches) == matches


def test_a_span_beyond_the_text_is_cut() -> None:
    assert weights("bees", match("q", "es", 2, 99, 0.9)) == [("be", 0.0), ("es", 1.0)]
    assert weights("", match("q", "es", 2, 99, 0.9)) == []


def test_negative_scores_alone_have_no_weight() -> None:
    assert weights("bees fly", match("q", "bees", 0, 4, -0.2)) == [("bees", 0.0), (" fly", 0.0)]


@pytest.mark.parametrize("character", ["e\u0301", "👍🏽", "👩\u200d👩\u200d👧", "षि", "❤\ufe0f"])
def test_characters_of_several_code_points_stay_whole(character: str) -> None:
    text = f"a{character}z"
    for position in range(1, 1 + len(character)):
        assert weights(text, match("q", "?", position, position + 1, 1.0)) == [("a", 0.0), (character, 1.0), ("z", 0.0)]


def test_piled_up_marks_are_cut_somewhere() -> None:
    text = "z" + "\u0301" * 100_000
    pieces = highlight(text, [match("q", "?", n, n + 1, 1.0) for n in range(500)])
    assert "".join(piece.text for piece in pieces) == text


def test_shorten_keeps_whole_words_around_matches() -> None:
    text = "one two three four five bees six seven eight nine ten honey eleven twelve"
    pieces = highlight(text, [match("q", "bees", 24, 28, 1.0), match("r", "honey", 54, 59, 1.0)])
    assert "|".join(piece.text for piece in shorten(pieces, 10)) == "… five |bees| six … nine ten |honey| eleven …"
    assert shorten(pieces, 1000) == pieces


def test_shorten_without_matches_keeps_the_beginning() -> None:
    assert shorten(highlight("蜜" * 500, []), 10) == [Piece("蜜" * 10 + "…", 0.0, ())]
