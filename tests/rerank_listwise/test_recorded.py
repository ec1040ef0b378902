"""Recorded calls of real models replayed: our windows ask what was asked then, and our parser reads what was read then.

The recordings are TREC DL 2019 with BM25's first 100 or 20, from rank_llm's history; see ``SOURCE.txt`` in the data folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded import Call, cut, key, read_calls, read_corpus, read_run

from rerank_listwise.listwise import sliding_window
from rerank_listwise.permutation import parse_permutation
from rerank_listwise.questions import Answer, Question
from rerank_listwise.rounds import run

COLLECTION = "data/collections/msmarco-dl19"


@pytest.fixture(scope="module")
def corpus(shared: Path) -> dict[str, str]:
    return read_corpus(shared)


@pytest.fixture(scope="module")
def first_stage(shared: Path) -> dict[str, list[str]]:
    return read_run(shared / COLLECTION / "runs/bm25-anserini.trec")


def replay(
    name: str, depth: int, shared: Path, corpus: dict[str, str], first_stage: dict[str, list[str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """The run that our algorithm and parser make of the recorded responses, and how its questions differ from those asked."""
    calls = iter(read_calls(shared, name))
    differences: list[str] = []
    ranked: dict[str, list[str]] = {}
    for query, candidates in first_stage.items():
        documents = candidates[:depth]

        def answer(questions: Sequence[Question], documents: list[str] = documents, query: str = query) -> list[Answer]:
            (question,) = questions
            call: Call = next(calls)
            ours = [key(cut(corpus[documents[passage]])) for passage in question.passages]
            theirs = [key(passage) for passage in call.passages]
            if ours != theirs:
                kind = "order" if sorted(ours) == sorted(theirs) else "set"
                differences.append(f"{query}: {kind}")
            read = parse_permutation(call.response, len(question.passages))
            return [Answer(tuple(question.passages[position] for position in read.order))]

        order = run(sliding_window(range(len(documents)), size=20, stride=10), answer)
        ranked[query] = [documents[passage] for passage in order]
    assert next(calls, None) is None
    return ranked, differences


def ndcg(shared: Path, ranked: dict[str, list[str]]) -> float:
    measures: Any = pytest.importorskip("ir_measures")
    qrels = [
        measures.Qrel(query, document, int(grade))
        for query, document, grade in map(
            str.split, (shared / COLLECTION / "qrels.full.tsv").read_text(encoding="utf-8").splitlines()[1:]
        )
    ]
    scored = [
        measures.ScoredDoc(query, document, float(-rank))
        for query, documents in ranked.items()
        for rank, document in enumerate(documents)
    ]
    value: float = measures.calc_aggregate([measures.nDCG @ 10], qrels, scored)[measures.nDCG @ 10]
    return value


def test_one_window_reproduces_the_recorded_run(
    shared: Path, corpus: dict[str, str], first_stage: dict[str, list[str]]
) -> None:
    ranked, differences = replay("rankvicuna-20", 20, shared, corpus, first_stage)
    assert differences == []
    recorded = read_run(shared / "data/llm_outputs/rankvicuna-20.trec.gz")
    assert sum(recorded[query][:20] == documents for query, documents in ranked.items()) == 43


def test_nine_windows_reproduce_the_recorded_run(
    shared: Path, corpus: dict[str, str], first_stage: dict[str, list[str]]
) -> None:
    ranked, differences = replay("rankvicuna-100", 100, shared, corpus, first_stage)
    assert differences == []
    recorded = read_run(shared / "data/llm_outputs/rankvicuna-100.trec.gz")
    assert ranked == recorded
    assert round(ndcg(shared, ranked), 4) == round(ndcg(shared, recorded), 4) == 0.6682


def test_broken_brackets_and_duplicates_are_read_as_they_were(
    shared: Path, corpus: dict[str, str], first_stage: dict[str, list[str]]
) -> None:
    ranked, differences = replay("vicuna-ckpt800-100", 100, shared, corpus, first_stage)
    assert differences == []
    assert ranked == read_run(shared / "data/llm_outputs/vicuna-ckpt800-100.trec.gz")


def test_numbers_of_lines_are_not_identifiers(
    shared: Path, corpus: dict[str, str], first_stage: dict[str, list[str]]
) -> None:
    """The recorders read ``1. [14] > 2. [15]`` as 1, 14, 2, 15; we read what stands in brackets, and so ask other windows."""
    ranked, differences = replay("vicuna-v1.5-100", 100, shared, corpus, first_stage)
    recorded = read_run(shared / "data/llm_outputs/vicuna-v1.5-100.trec.gz")
    assert all(sorted(documents) == sorted(recorded[query]) for query, documents in ranked.items())
    assert len(differences) == 19
    assert sum(recorded[query] == documents for query, documents in ranked.items()) == 27
    assert [round(ndcg(shared, run), 4) for run in (ranked, recorded)] == [0.5060, 0.5058]
