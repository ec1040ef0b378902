"""Scores, ids and options that are no plain numbers and names, and requests without end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rerank import (
    Backend,
    Claim,
    Confidence,
    InvalidInputError,
    InvalidOptionsError,
    Registry,
    Request,
    Reranker,
    Scores,
    ScoringError,
)

np = pytest.importorskip("numpy")


class Scorer:
    def __init__(self, values: Any) -> None:
        self.values = values

    def score(self, request: Request) -> Scores:
        return Scores(values=self.values, scale="logit")


def reranker(scorer: Any) -> Reranker:
    def claim(model: Any) -> Claim:
        return Claim(Confidence.CERTAIN, "the test's")

    registry = Registry()
    registry.register(Backend(name="own", summary="s", load=lambda model, options: scorer, claim=claim))
    return Reranker("own", registry=registry)


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "3"],
        "123",
        b"abc",
        bytearray(b"abc"),
        {0: 1, 1: 2, 2: 3},
        {1, 2, 3},
        [True, False, True],
        np.array([True, False, True]),
        [1j, 2, 3],
        [[1], [2], [3]],
        np.array([1, 2, "3"], dtype=object),
        [10**400, 1, 2],
        [float("nan"), 1, 2],
        (number for number in range(3)),
        [1, 2],
    ],
)
def test_scores_that_are_no_numbers_are_refused(values: Any) -> None:
    with pytest.raises(ScoringError):
        reranker(Scorer(values)).rank("q", ["a", "b", "c"])


@pytest.mark.parametrize(
    "values", [[2**53, 2**53 + 1, 2**53 + 2], np.array([2**63, 2**63 + 1, 2**63 + 2], dtype=np.uint64)]
)
def test_whole_numbers_that_floats_cannot_tell_apart_are_refused(values: Any) -> None:
    with pytest.raises(ScoringError, match="which floats cannot tell from its neighbours"):
        reranker(Scorer(values)).rank("q", ["a", "b", "c"])


def test_large_whole_numbers_keep_their_order() -> None:
    ranked = reranker(Scorer([2**53 - 1, 2**53, 2**60])).rank("q", ["a", "b", "c"])
    assert [result.doc_id for result in ranked] == [2, 1, 0]


@pytest.mark.parametrize("number", [10**5001, -(10**5001), 2**64, -(2**63) - 1], ids=range(4))
def test_an_id_beyond_64_bits_is_refused(number: int, run: Callable[..., Any], tmp_path: Any) -> None:
    with pytest.raises(InvalidInputError, match="the id of document 0 is a number beyond 64 bits: give it as a str"):
        reranker(Scorer([1.0])).rank("q", [{"id": number, "text": "a"}])


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), "9" * 5001])
def test_an_id_prints(number: Any) -> None:
    ranked = reranker(Scorer([1.0])).rank("q", [{"id": number, "text": "a"}])
    assert str(number)[:50] in str(ranked)
    assert json.loads(ranked.model_dump_json())["results"][0]["doc_id"] == number


def test_forty_thousand_ids_of_one_hash() -> None:
    ids = [(2**61 - 1) * number for number in range(40_000)]
    started = time.monotonic()
    with pytest.raises(InvalidInputError, match="beyond 64 bits"):
        reranker(Scorer([1.0] * 40_000)).rank("q", ["a"] * 40_000, doc_ids=ids)
    assert time.monotonic() - started < 5


class Many(Scorer):
    def score_many(self, requests: Iterator[Request]) -> Iterator[Scores]:
        for request in requests:
            yield Scores(values=[1.0] * len(request.documents), scale="logit")


@pytest.mark.parametrize("scorer", [Scorer([1.0]), Many([1.0])])
def test_empty_requests_are_not_read_ahead(scorer: Any) -> None:
    read = 0

    def requests() -> Iterator[tuple[str, list[str]]]:
        nonlocal read
        for _ in range(200_000):
            read += 1
            yield "q", []
        yield "q", ["a"]

    ranked = reranker(scorer).rank_many(requests())
    assert len(next(iter(ranked))) == 0
    assert read <= 1000


def test_empty_requests_between_others_are_answered_in_order() -> None:
    documents = [["a"], *[[]] * 2500, ["b", "c"], [], ["d"], *[[]] * 1000]
    answers = list(reranker(Many([1.0])).rank_many(("q", own) for own in documents))
    assert [len(ranked) for ranked in answers] == [len(own) for own in documents]


def test_a_scorer_that_takes_no_request_is_named() -> None:
    class None_(Scorer):
        def score_many(self, requests: Iterator[Request]) -> Iterator[Scores]:
            return iter(())

    with pytest.raises(ScoringError, match="backend 'own' took no request: report it to its authors"):
        list(reranker(None_([])).rank_many([("q", ["a"])]))


@pytest.mark.parametrize(
    "given", ["{0.__class__}{1}", "{}{!r}", "{:>9}{}", "{0[0]}{1}", "{}{a}", "{}", "{}{}{}", "{0}{0}", "{"]
)
def test_a_format_reads_no_attributes(subject_of: Callable[..., Any], given: str) -> None:
    subject = subject_of("cross-encoder")
    with pytest.raises(InvalidOptionsError, match="a format must have two places"):
        subject.build(query_instruction_for_rerank="i", query_instruction_format=given)


@pytest.mark.parametrize("given", ["{}{}", "A: {}\\nB: {}", "{1} {0}"])
def test_formats_with_two_places_are_taken(subject_of: Callable[..., Any], given: str) -> None:
    with subject_of("cross-encoder").build(query_instruction_for_rerank="i", query_instruction_format=given) as found:
        assert found.rank("bees", ["a"])
