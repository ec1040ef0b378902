"""Raw values become a ranking: checked, sorted stably on the raw score, and normalised last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import Document, InvalidOptionsError, Options, Request, Scores, ScoringError
from rerank.ranking import rank_by_score, sigmoid
from rerank.results import RankedResults


class Plain:
    """A scorer of which only its capabilities matter here."""

    def score(self, request: Request) -> Scores:
        raise NotImplementedError


class Calibrating(Plain):
    """Its published map halves the interval around zero."""

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        return [value / 10 for value in values]


def rank(
    values: Sequence[Any], scale: Any = "logit", *, scorer: Any = None, top_k: int | None = None, **fields: Any
) -> RankedResults:
    """Rank documents ``d0``, ``d1`` … with these values."""
    options = Options(normalize=fields.pop("normalize", False))
    documents = fields.pop("documents", [Document(text=f"t{i}", doc_id=f"d{i}") for i in range(len(values))])
    request = Request(query="q", documents=documents, top_k=top_k, options=options)
    scores = Scores(values=values, scale=scale, **fields)
    return rank_by_score(request, scores, scorer or Plain(), model="m", backend="b")


def order(ranked: RankedResults) -> list[int | None]:
    return [result.index for result in ranked]


def test_best_first_with_ranks_from_1() -> None:
    ranked = rank([0.1, 0.9, -3.0])
    assert [(r.doc_id, r.rank, r.index, r.score) for r in ranked] == [
        ("d1", 1, 1, 0.9),
        ("d0", 2, 0, 0.1),
        ("d2", 3, 2, -3.0),
    ]
    assert (ranked.model, ranked.backend, ranked.query, ranked.scale, ranked.has_scores) == (
        "m",
        "b",
        "q",
        "logit",
        True,
    )


def test_ties_keep_the_order_of_candidates() -> None:
    assert order(rank([1.0, 2.0, 1.0, 2.0, 1.0])) == [1, 3, 0, 2, 4]


def test_minus_zero_ties_with_zero() -> None:
    assert order(rank([-0.0, 0.0, -0.0])) == [0, 1, 2]


def test_what_has_no_score_comes_last_in_input_order() -> None:
    ranked = rank([None, -1e308, None, 5.0, None])
    assert order(ranked) == [3, 1, 0, 2, 4]
    assert [result.score for result in ranked] == [5.0, -1e308, None, None, None]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_finite_number_names_its_document(bad: float) -> None:
    with pytest.raises(ScoringError, match=rf"backend 'b' scored document 'd1' as {bad}"):
        rank([1.0, bad, 2.0])


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0]])
def test_a_wrong_number_of_values(values: list[float]) -> None:
    documents = [Document(text="a", doc_id=0), Document(text="b", doc_id=1)]
    with pytest.raises(ScoringError, match=rf"returned {len(values)} values for 2 documents"):
        rank(values, documents=documents)


@pytest.mark.parametrize("details", [[], [{}], [{}, {}, {}]])
def test_a_wrong_number_of_details(details: list[Any]) -> None:
    with pytest.raises(ScoringError, match=rf"returned {len(details)} details for 2 documents"):
        rank([1.0, 2.0], details=details)


def test_details_and_diagnostics_reach_the_results() -> None:
    ranked = rank([1.0, 2.0], details=[{"layer": 1}, {"layer": 2}], diagnostics={"truncated": 1})
    assert [result.details for result in ranked] == [{"layer": 2}, {"layer": 1}]
    assert ranked.diagnostics == {"truncated": 1}


def test_top_k_cuts_the_end() -> None:
    assert order(rank([1.0, 3.0, 2.0], top_k=2)) == [1, 2]
    assert order(rank([1.0, 3.0, 2.0], top_k=9)) == [1, 2, 0]


def test_top_k_may_leave_the_rest_without_a_value() -> None:
    assert order(rank([None, 3.0, 2.0], top_k=2)) == [1, 2]


def test_an_order_shows_no_scores() -> None:
    ranked = rank([3.0, 1.0, 2.0], "ordinal")
    assert order(ranked) == [0, 2, 1]
    assert [result.score for result in ranked] == [None] * 3
    assert not ranked.has_scores


def test_a_logit_normalises_to_its_sigmoid() -> None:
    ranked = rank([0.0, 2.0, -800.0, 800.0, None], normalize=True)
    assert [result.score for result in ranked] == [1.0, pytest.approx(1 / (1 + math.exp(-2))), 0.5, 0.0, None]
    assert ranked.scale == "probability"


def test_a_probability_normalises_to_itself() -> None:
    assert [result.score for result in rank([0.25, 0.75], "probability", normalize=True)] == [0.75, 0.25]


def test_the_models_own_map_comes_before_the_sigmoid() -> None:
    for scale in ("logit", "probability", "similarity"):
        ranked = rank([1.0, None, 5.0], scale, scorer=Calibrating(), normalize=True)
        assert [result.score for result in ranked] == [0.5, 0.1, None]
        assert ranked.scale == "probability"


@pytest.mark.parametrize("scale", ["similarity", "ordinal"])
def test_what_has_no_map_is_not_normalised(scale: str) -> None:
    with pytest.raises(InvalidOptionsError, match=rf"normalize=True .* backend 'b' are {scale}: leave it out"):
        rank([1.0, 2.0], scale, normalize=True)


def test_an_order_with_a_map_has_scores_once_normalised() -> None:
    ranked = rank([1.0, 2.0], "ordinal", scorer=Calibrating(), normalize=True)
    assert [result.score for result in ranked] == [0.2, 0.1]
    assert ranked.has_scores


@pytest.mark.parametrize("mapped", [[], [0.5], [0.5, 0.5, 0.5], [0.5, math.nan]])
def test_a_map_that_loses_or_spoils_values_is_an_error(mapped: list[float]) -> None:
    class Broken(Plain):
        def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
            return mapped

    with pytest.raises(ScoringError, match="backend 'b'"):
        rank([1.0, 2.0], scorer=Broken(), normalize=True)


def test_sorting_is_on_the_raw_score_where_the_sigmoid_ties() -> None:
    raw = [40.0, 41.0, 42.0, 39.0]
    ranked = rank(raw, normalize=True)
    assert order(ranked) == [2, 1, 0, 3]
    assert {result.score for result in ranked} == {1.0}


@given(st.lists(st.one_of(st.none(), st.floats(-1e300, 1e300)), max_size=12), st.booleans())
def test_the_order_is_that_of_a_stable_sort(values: list[float | None], normalize: bool) -> None:
    wanted = sorted(range(len(values)), key=lambda i: (values[i] is None, -(values[i] or 0.0)))
    assert order(rank(values, normalize=normalize)) == wanted


@given(st.floats(-1e300, 1e300))
def test_the_sigmoid_stays_between_0_and_1(value: float) -> None:
    assert 0 <= sigmoid(value) <= 1
    assert sigmoid(value) == pytest.approx(1 - sigmoid(-value))
