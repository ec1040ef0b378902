"""Token ids become rows: what is cut, what is kept, and that windows cover a document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rerank import (
    InvalidOptionsError,
    Options,
    PairLayout,
    aggregate,
    describe_windows,
    encode_pairs,
    fit_pair,
    pair_rows,
    place_window,
    plan_windows,
)

BERT = PairLayout(before=(101,), between=(102,), after=(102,), types=(0, 1))
_size = st.integers(0, 50)


@given(query=_size, document=_size, budget=st.integers(-5, 80))
def test_the_document_yields_before_the_query(query: int, document: int, budget: int) -> None:
    kept_query, kept_document = fit_pair(query, document, budget)
    assert 0 <= kept_query <= query
    assert 0 <= kept_document <= document
    assert kept_query + kept_document == min(query + document, max(0, budget))
    assert kept_query == query or kept_document == 0


@pytest.mark.parametrize(
    ("lengths", "kept"),
    [((3, 4, 10), (3, 4)), ((3, 9, 10), (3, 7)), ((12, 9, 10), (10, 0)), ((3, 4, 0), (0, 0)), ((0, 4, 2), (0, 2))],
)
def test_fitting_by_example(lengths: tuple[int, int, int], kept: tuple[int, int]) -> None:
    assert fit_pair(*lengths) == kept


@given(query=_size, document=_size, budget=st.integers(1, 80), overlap=st.integers(0, 20))
def test_windows_cover_the_document_and_overlap(query: int, document: int, budget: int, overlap: int) -> None:
    try:
        windows = plan_windows(query, document, budget, overlap)
    except InvalidOptionsError:
        assert budget - query <= overlap
        return
    assert windows[0][0] == 0
    assert windows[-1][1] == document
    assert {position for start, end in windows for position in range(start, end)} == set(range(document))
    for start, end in windows:
        assert end - start + query <= budget or document == 0
    for (_, end), (start, _) in pairwise(windows):
        assert end - start == overlap
    if len(windows) > 1:
        assert all(end - start == budget - query for start, end in windows[:-1])
        assert windows[-1][1] - windows[-1][0] > overlap, "the last window adds something"


def test_windows_by_example() -> None:
    assert plan_windows(4, 10, 20, 2) == [(0, 10)]
    assert plan_windows(4, 16, 20, 2) == [(0, 16)]
    assert plan_windows(4, 17, 20, 2) == [(0, 16), (14, 17)]
    assert plan_windows(4, 0, 20, 2) == [(0, 0)]


def test_a_query_that_leaves_no_room() -> None:
    with pytest.raises(InvalidOptionsError, match=r"a query of 18 tokens leaves windows of 2 .* overlap of 4: raise"):
        plan_windows(18, 9, 20, 4)


_owned = st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=5), max_size=6)


@given(groups=_owned)
def test_aggregates_are_those_of_each_owner(groups: list[list[float]]) -> None:
    values = [value for group in groups for value in group]
    owners = [owner for owner, group in enumerate(groups) for _ in group]
    assert aggregate(values, owners, "max") == [max(group) for group in groups]
    assert aggregate(values, owners, "first") == [group[0] for group in groups]
    assert aggregate(values, owners, "mean") == pytest.approx([sum(group) / len(group) for group in groups])


def test_all_negative_values_have_a_negative_maximum() -> None:
    assert aggregate([-3.0, -1.0, -2.0], [0, 0, 1], "max") == [-1.0, -2.0]


def test_a_row_by_example() -> None:
    rows = pair_rows([7, 8], [[1, 2, 3], []], BERT, Options(), max_length=512, query_max_length=64)
    assert rows.rows == [[101, 7, 8, 102, 1, 2, 3, 102], [101, 7, 8, 102, 102]]
    assert [BERT.type_ids(rows.query_len, len(row)) for row in rows.rows] == [
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]
    assert (rows.owners, rows.truncated, rows.query_truncated) == ([0, 1], 0, False)


def test_what_stands_behind_the_document_survives_a_long_one() -> None:
    prompt = PairLayout(before=(1, 2), between=(3,), after=(4, 5))
    rows = pair_rows([7], [list(range(100, 200))], prompt, Options(), max_length=10, query_max_length=4)
    assert rows.rows == [[1, 2, 7, 3, 100, 101, 102, 103, 4, 5]]
    assert rows.truncated == 1


@given(
    query=st.lists(st.integers(1000, 1999), max_size=20),
    documents=st.lists(st.lists(st.integers(2000, 2999), max_size=40), max_size=4),
    max_length=st.integers(4, 60),
    query_max_length=st.integers(1, 30),
)
def test_rows_equal_the_reference_written_out(
    query: list[int], documents: list[list[int]], max_length: int, query_max_length: int
) -> None:
    made = pair_rows(query, documents, BERT, Options(), max_length=max_length, query_max_length=query_max_length)
    room = max_length - 3
    cut_query = query[: min(query_max_length, room)]
    wanted = [[101, *cut_query, 102, *document[: room - len(cut_query)], 102] for document in documents]
    assert made.rows == wanted
    assert made.owners == list(range(len(documents)))
    assert made.query_len == len(cut_query)
    assert made.query_truncated == (len(cut_query) < len(query))
    assert made.truncated == sum(len(cut_query) + len(document) > room for document in documents)
    assert all(len(row) <= max_length for row in made.rows)
    for row in made.rows:
        types = BERT.type_ids(made.query_len, len(row))
        assert types == [0] * (made.query_len + 2) + [1] * (len(row) - made.query_len - 2)


@given(
    query=st.lists(st.integers(1000, 1999), max_size=8),
    documents=st.lists(st.lists(st.integers(2000, 2999), max_size=60), max_size=4),
    max_length=st.integers(24, 40),
    window=st.one_of(st.none(), st.integers(6, 30)),
    overlap=st.integers(0, 5),
)
def test_chunks_together_hold_every_token(
    query: list[int], documents: list[list[int]], max_length: int, window: int | None, overlap: int
) -> None:
    assume(max_length - 3 - len(query) > overlap)
    options = Options(long_documents="chunk", window=window, overlap=overlap)
    made = pair_rows(query, documents, BERT, options, max_length=max_length, query_max_length=64)
    assert made.truncated == 0
    assert all(len(row) <= max_length for row in made.rows)
    for owner, document in enumerate(documents):
        parts = [row[len(query) + 2 : -1] for row, of in zip(made.rows, made.owners) if of == owner]
        assert parts
        if window is not None:
            assert all(len(part) <= window for part in parts)
        joined = parts[0] + [token for part in parts[1:] for token in part[overlap:]]
        assert joined == document
    assert made.owners == sorted(made.owners)


def test_a_layout_knows_its_own_length() -> None:
    assert len(BERT) == 3
    assert BERT.row([7], [8]) == [101, 7, 102, 8, 102]


def test_queries_share_a_call_of_the_tokenizer(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[list[str]] = []

    def tokens(texts: Sequence[str]) -> list[list[int]]:
        calls.append(list(texts))
        return [list(map(ord, text)) for text in texts]

    texts = [("q", ["one", "a longer one"]), ("r" * 5, []), ("s" * 5, ["two"])]
    pairs = encode_pairs(texts, tokens, BERT, Options(), max_length=12, query_max_length=4)
    assert calls == [["q", "one", "a longer one", "r" * 5, "s" * 5, "two"]]
    for (query, documents), made in zip(texts, pairs):
        ids = [list(map(ord, text)) for text in documents]
        assert made == pair_rows(list(map(ord, query)), ids, BERT, Options(), max_length=12, query_max_length=4)
    assert caplog.messages == ["a query of 5 characters was cut to 4 tokens: raise query_max_length or max_length"] * 2


def test_scores_take_one_value_per_row() -> None:
    options = Options(long_documents="chunk", overlap=0, aggregate="mean")
    texts = [("q", ["x" * 10, "y"]), ("r", ["z"])]
    pairs = encode_pairs(
        texts, lambda texts: [[1] * len(text) for text in texts], BERT, options, max_length=9, query_max_length=4
    )
    values = iter([1.0, 3.0, 5.0, 7.0])
    first, second = (one.scores(values, options, "logit") for one in pairs)
    assert (first.values, first.scale, second.values) == ([2.0, 5.0], "logit", [7.0])
    assert first.diagnostics == {"truncated": 0, "query_truncated": False}


def test_the_window_that_won_is_described() -> None:
    def place(owner: int, number: int) -> dict[str, Any]:
        return {"tokens": [owner, number]}

    values, owners = [0.1, 0.9, 0.5, 7.0, 0.3, 0.2], [0, 0, 0, 1, 2, 2]
    chunked = Options(long_documents="chunk")
    found = describe_windows(values, owners, chunked, place)
    assert found == [
        {"window": {"index": 1, "count": 3, "score": 0.9, "tokens": [0, 1]}},
        {},
        {"window": {"index": 0, "count": 2, "score": 0.3, "tokens": [2, 0]}},
    ]
    assert describe_windows(values, owners, chunked.model_copy(update={"aggregate": "mean"}), place) == found
    first = describe_windows(values, owners, chunked.model_copy(update={"aggregate": "first"}), place)
    assert first
    assert first[0]["window"]["score"] == 0.1
    assert describe_windows(values, owners, Options(), place) is None


def test_a_window_stands_in_tokens_and_where_known_in_characters() -> None:
    assert place_window((1, 3), [(0, 2), (3, 5), (6, 9)]) == {"tokens": [1, 3], "characters": [3, 9]}
    assert place_window((0, 3), [None, (3, 5), None]) == {"tokens": [0, 3], "characters": [3, 5]}
    found = place_window((1, 3), None)
    assert json.loads(json.dumps(found)) == found == {"tokens": [1, 3]}


def test_the_second_segment_may_open_before_its_document():
    llama = PairLayout(before=(1,), between=(2, 1), types=(0, 1), opening=1)
    row = llama.row([7, 8], [9])
    assert row == [1, 7, 8, 2, 1, 9]
    assert llama.type_ids(2, len(row)) == [0, 0, 0, 0, 1, 1]
