"""Results are read by name and position, and survive JSON, pickle and copy."""

from __future__ import annotations

import copy
import json
import pickle

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import Document, DocumentNotFoundError, InvalidInputError, RankedResults, RerankError, Result


@pytest.fixture
def seeds() -> RankedResults:
    return RankedResults(
        results=[
            Result(doc_id=2, text="I like you", score=0.13376183807849884, rank=1),
            Result(doc_id=1, text="I really like you", score=0.002901385771110654, rank=2),
            Result(doc_id=0, text="I hate you", score=-2.278848886489868, rank=3),
            Result(doc_id=3, text="I despise you", score=-3.1964476108551025, rank=4),
        ],
        query="I love you",
        has_scores=True,
    )


@pytest.fixture
def rich() -> RankedResults:
    return RankedResults(
        results=[
            Result(doc_id="ü/1", text="😀 日本", score=2.5, rank=1, index=1, metadata={"a": [1, {"b": None}]}),
            Result(doc_id=1, text="", score=0.1 + 0.2, rank=2, index=0, details={"layers": [0.5]}),
            Result(doc_id="1", text="\x00\n", score=None, rank=3, index=2),
        ],
        query="où?",
        has_scores=True,
        model="m",
        backend="b",
        scale="similarity",
        diagnostics={"truncated": 1},
    )


def test_the_seeds_own_calls(seeds: RankedResults) -> None:
    assert seeds.top_k(1) == [Result(doc_id=2, text="I like you", score=0.13376183807849884, rank=1)]
    assert seeds.top_k(1)[0]["text"] == "I like you"
    assert seeds.get_score_by_docid(3) == -3.1964476108551025
    assert eval(repr(seeds), {"RankedResults": RankedResults, "Result": Result}) == seeds


def test_it_is_a_sequence(seeds: RankedResults) -> None:
    assert len(seeds) == 4
    assert [result.rank for result in seeds] == [1, 2, 3, 4]
    assert seeds[0].doc_id == 2
    assert seeds[-1].doc_id == 3
    assert [result.doc_id for result in seeds[1:3]] == [1, 0]
    assert seeds.results[1] in seeds
    with pytest.raises(IndexError):
        seeds[4]


def test_a_result_answers_to_its_fields_names(seeds: RankedResults) -> None:
    assert {name: seeds[0][name] for name in Result.model_fields} == dict(seeds[0])
    with pytest.raises(KeyError):
        seeds[0]["model_fields"]


@pytest.mark.parametrize("k", [1, 3, 4, 9])
def test_top_k(seeds: RankedResults, k: int) -> None:
    assert seeds.top_k(k) == seeds.results[:k]


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "1", None])
def test_top_k_must_be_a_whole_number_from_1_up(seeds: RankedResults, k: object) -> None:
    with pytest.raises(InvalidInputError, match="top_k must be a whole number"):
        seeds.top_k(k)  # type: ignore[arg-type]


def test_ids_are_looked_up_exactly(rich: RankedResults) -> None:
    assert rich.get_result_by_docid(1).rank == 2
    assert rich.get_result_by_docid("1").rank == 3
    assert rich.get_score_by_docid("1") is None


@pytest.mark.parametrize(
    ("doc_id", "step"),
    [
        ("ü", "the ids are 'ü/1', 1, '1' (top_k may have left it out)"),
        (2, "the ids are 'ü/1', 1, '1' (top_k may have left it out)"),
    ],
)
def test_an_unknown_id_is_a_typed_error_that_is_also_a_key_error(
    rich: RankedResults, doc_id: str | int, step: str
) -> None:
    with pytest.raises(DocumentNotFoundError) as caught:
        rich.get_score_by_docid(doc_id)
    assert isinstance(caught.value, RerankError)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value) == f"no result has the id {doc_id!r}: {step}"


def test_an_id_of_another_type_is_named(seeds: RankedResults) -> None:
    with pytest.raises(DocumentNotFoundError, match="no result has the id '2': there is 2, of type int"):
        seeds.get_result_by_docid("2")


def test_an_unknown_id_among_many_names_only_some() -> None:
    results = [Result(doc_id=i, text="", score=0.0, rank=i + 1) for i in range(1000)]
    with pytest.raises(KeyError, match="the ids are 0, 1, 2, 3, 4 and 995 more"):
        RankedResults(results=results, query="q", has_scores=True).get_result_by_docid("x")


def test_above_keeps_ranks_and_leaves_the_original(seeds: RankedResults) -> None:
    best = seeds.above(0.002901385771110654)
    assert [(result.doc_id, result.rank) for result in best] == [(2, 1), (1, 2)]
    assert best.query == seeds.query
    assert len(seeds) == 4
    assert len(seeds.above(9)) == 0


def test_above_leaves_out_what_has_no_score(rich: RankedResults) -> None:
    assert len(rich.above(float("-inf"))) == 2


def test_above_is_an_error_where_only_the_order_is_real() -> None:
    ordinal = RankedResults(
        results=[Result(doc_id=0, text="a", score=None, rank=1)],
        query="q",
        has_scores=False,
        model="m",
        scale="ordinal",
    )
    with pytest.raises(InvalidInputError, match=r"m only orders: use top_k"):
        ordinal.above(0)


def test_to_dicts(rich: RankedResults) -> None:
    rows = rich.to_dicts()
    assert rows[0] == {"id": "ü/1", "text": "😀 日本", "meta": {"a": [1, {"b": None}]}, "score": 2.5}
    assert [list(row) for row in rows] == [["id", "text", "meta", "score"]] * 3


def test_json_pickle_and_copies_are_equal(rich: RankedResults, seeds: RankedResults) -> None:
    for ranked in (rich, seeds):
        for again in (
            RankedResults.model_validate_json(ranked.model_dump_json()),
            RankedResults.model_validate(json.loads(json.dumps(ranked.model_dump()))),
            pickle.loads(pickle.dumps(ranked)),
            copy.copy(ranked),
            copy.deepcopy(ranked),
            ranked.model_copy(deep=True),
        ):
            assert again == ranked
            assert [type(result.doc_id) for result in again] == [type(result.doc_id) for result in ranked]
            assert str(again) == str(ranked)
        for result in ranked:
            assert pickle.loads(pickle.dumps(result)) == copy.deepcopy(result) == copy.copy(result) == result


_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
_plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), _text
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=6,
)
_results = st.builds(
    Result,
    doc_id=st.one_of(_text, st.integers(-(2**70), 2**70)),
    text=_text,
    score=st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    rank=st.integers(1, 1000),
    metadata=st.dictionaries(_text, _plain, max_size=3),
)


@given(results=st.lists(_results, max_size=4), query=_text)
def test_any_ranking_survives_json_and_pickle(results: list[Result], query: str) -> None:
    ranked = RankedResults(results=results, query=query, has_scores=True)
    assert RankedResults.model_validate_json(ranked.model_dump_json()) == ranked
    assert pickle.loads(pickle.dumps(ranked)) == ranked


@given(results=st.lists(_results, max_size=4), width=st.integers(20, 200))
def test_any_table_has_one_line_a_result(results: list[Result], width: int) -> None:
    lines = RankedResults(results=results, query="q", has_scores=True).table(width).split("\n")
    assert len(lines) == len(results) + 1
    assert all(len(line.splitlines()) <= 1 for line in lines)
    assert all(len(line) <= width for line in lines)


def test_the_table(seeds: RankedResults) -> None:
    assert str(seeds) == (
        "rank    score  id  text\n"
        "   1   0.1338  2   I like you\n"
        "   2   0.0029  1   I really like you\n"
        "   3  -2.2788  0   I hate you\n"
        "   4  -3.1964  3   I despise you"
    )


def test_nothing_can_be_set(seeds: RankedResults) -> None:
    for thing, name in ((seeds, "query"), (seeds[0], "rank"), (Document(text="a", doc_id=0), "text")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(thing, name, "x")


@pytest.mark.parametrize("doc_id", [True, 1.0, None, b"x"])
def test_an_id_is_a_str_or_an_int(doc_id: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        Document(text="a", doc_id=doc_id)  # type: ignore[arg-type]


def test_a_field_that_there_is_not() -> None:
    with pytest.raises(pydantic.ValidationError, match="scroe"):
        Result(doc_id=0, text="a", score=1, rank=1, scroe=2)  # type: ignore[call-arg]
