"""Token matches in a terminal."""

from __future__ import annotations

import re
import unicodedata

import click
import pytest
from rankings import HOSTILE, hostile_ranking, match, ranking, result

from rerank import Result
from rerank_colbert.labels import ROWS
from rerank_colbert.terminal import as_terminal


def test_the_terminal_shows_each_match_in_a_line() -> None:
    text = "bees make honey"
    matches = [
        match("bee", "bees", 0, 4, 0.875),
        match("##s", "bees", 0, 4, -0.25),
        match("[MASK]", "[CLS]", None, None, 0.5),
    ]
    shown = Result(doc_id="d7", text=text, score=1.125, rank=2, details={"matches": matches})
    assert click.unstyle(as_terminal(ranking(shown))).splitlines() == [
        "2  1.1250  d7",
        "    bees make honey",
        "",
        "    bee    → bees    0.875",
        "    ##s    → bees   -0.250",
        "    [MASK] → [CLS]   0.500",
    ]


def test_the_terminal_colours_by_weight() -> None:
    text = "one two three four five"
    spans = [(0, 3), (4, 7), (8, 13), (14, 18)]
    matches = [match("q", "?", *span, score) for span, score in zip(spans, (0.1, 0.4, 0.7, 1.0))]
    line = as_terminal(
        ranking(Result(doc_id=1, text=text, score=None, rank=1, details={"matches": matches}))
    ).splitlines()[1]
    styles = re.findall(r"((?:\x1b\[[\d;]+m)+)(\w+)\x1b\[0m", line)
    assert [word for _, word in styles] == ["one", "two", "three", "four"]
    assert len({style for style, _ in styles}) == 4
    assert line.endswith(" five")


def test_wide_characters_are_aligned_and_wrapped() -> None:
    text = HOSTILE["Chinese and Japanese"] * 10
    shown = Result(
        doc_id=1,
        text=text,
        score=1.0,
        rank=1,
        details={"matches": [match("蜜蜂", "蜜蜂", 0, 2, 0.9), match("bee", "蜜", 0, 1, 0.8)]},
    )
    lines = click.unstyle(as_terminal(ranking(shown), width=60)).splitlines()
    assert all(cells(line) <= 60 for line in lines)
    assert [cells(line) for line in lines[-2:]] == [cells(lines[-1])] * 2


def cells(line: str) -> int:
    """Columns in a terminal, counted another way: by the widths of the Unicode standard."""
    return sum(
        0
        if unicodedata.combining(point) or point in "\u200d\ufe0f"
        else 2
        if unicodedata.east_asian_width(point) in "WF"
        else 1
        for point in line
    )


@pytest.mark.parametrize("width", [10, 40, 100])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_hostile_reaches_the_terminal(name: str, width: int) -> None:
    coloured = as_terminal(hostile_ranking(name), width)
    plain = re.sub(r"\x1b\[(?:0|1|4|38;5;16|48;5;\d+)m", "", coloured)
    assert all(character.isprintable() or character in "\n\u200d" for character in plain)
    assert all(cells(line) <= max(width, 40) for line in plain.splitlines())
    assert len(plain.splitlines()) < 40
    coloured.encode()


def test_a_query_of_many_tokens_is_bounded() -> None:
    shown = click.unstyle(as_terminal(ranking(result("bees make honey", ["bee"] * 1000))))
    assert shown.count(" → ") == ROWS
    assert "more matches" in shown
