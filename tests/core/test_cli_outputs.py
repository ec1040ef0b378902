"""``rerank rank`` writes a table, JSON, JSON lines, TSV or a TREC run; each is read back from standard output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_plugins import Site

from rerank import RankedResults, Result
from rerank.cli.rank import OUTPUTS

DOCS = '{"id": "a b", "text": "a dog", "meta": {"k": 1}}\n{"id": 2, "text": "tab\\there and\\na cat 😀"}\n{"id": "", "text": "cat dog"}\n'


@pytest.fixture
def ranked(site: Site, run: Callable[..., Any]) -> Callable[..., str]:
    """The standard output of a ranking of three documents."""
    site.install("fake_good")

    def rank_here(*arguments: str) -> str:
        ran = run("rank", "cat dog", "-", "--input-format", "jsonl", "-m", "good", *arguments, stdin=DOCS)
        assert (ran.code, ran.err) == (0, "")
        out: str = ran.out
        return out

    return rank_here


def test_json_is_the_whole_ranking(ranked: Callable[..., str]) -> None:
    results = RankedResults.model_validate_json(ranked("-f", "json"))
    assert [(r.rank, r.doc_id, r.score) for r in results] == [(1, "", 1.0), (2, "a b", 0.5), (3, 2, 0.5)]
    assert results.get_result_by_docid("a b").metadata == {"k": 1}
    assert (results.query, results.model, results.backend, results.scale) == ("cat dog", "good", "good", "logit")


def test_jsonl_is_one_result_a_line(ranked: Callable[..., str]) -> None:
    lines = ranked("--format", "jsonl").splitlines()
    assert [Result.model_validate_json(line).doc_id for line in lines] == ["", "a b", 2]
    assert "😀" in lines[2]


def test_tsv_has_four_columns_whatever_the_text_holds(ranked: Callable[..., str]) -> None:
    lines = [line.split("\t") for line in ranked("-f", "tsv").splitlines()]
    assert lines == [
        ["rank", "score", "id", "text"],
        ["1", "1.0", "_", "cat dog"],
        ["2", "0.5", "a_b", "a dog"],
        ["3", "0.5", "2", "tab here and a cat 😀"],
    ]


def test_tsv_can_be_ranked_again(ranked: Callable[..., str], run: Callable[..., Any]) -> None:
    ran = run("rank", "dog", "--input-format", "tsv", "-m", "good", "-f", "jsonl", stdin=ranked("-f", "tsv"))
    first = json.loads(ran.out.splitlines()[0])
    assert (first["doc_id"], first["metadata"]) == ("_", {"rank": "1", "score": "1.0"})


def test_trec_has_six_columns(ranked: Callable[..., str]) -> None:
    lines = [line.split() for line in ranked("-f", "trec", "--query-id", "q 7").splitlines()]
    assert lines == [
        ["q_7", "Q0", "_", "1", "1.0", "good"],
        ["q_7", "Q0", "a_b", "2", "0.5", "good"],
        ["q_7", "Q0", "2", "3", "0.5", "good"],
    ]


def test_trec_of_a_model_that_only_orders(ranked: Callable[..., str]) -> None:
    lines = [line.split() for line in ranked("-f", "trec", "-o", "scale=ordinal").splitlines()]
    assert [float(line[4]) for line in lines] == [1.0, 0.5, pytest.approx(1 / 3)]


def test_the_table_is_the_default(ranked: Callable[..., str]) -> None:
    lines = ranked().splitlines()
    assert lines[0].split() == ["rank", "score", "id", "text"]
    assert lines[2].split() == ["2", "0.5000", "a", "b", "a", "dog"]
    assert lines[3].endswith("tab here and a cat 😀")


def test_scores_keep_every_digit(ranked: Callable[..., str]) -> None:
    weight = 0.1 + 0.2
    arguments = ("-o", f"weight={weight!r}")
    wanted = RankedResults.model_validate_json(ranked("-f", "json", *arguments))[0].score
    assert float(ranked("-f", "tsv", *arguments).splitlines()[1].split("\t")[1]) == wanted == weight
    assert float(ranked("-f", "trec", *arguments).split()[4]) == wanted


def test_top_k_and_options_reach_the_model(ranked: Callable[..., str]) -> None:
    assert len(ranked("-k", "2", "-f", "jsonl").splitlines()) == 2
    top = json.loads(ranked("-k", "1", "-f", "jsonl", "-o", "weight=4.0", "--option", "batch-size=8"))
    assert top["score"] == 4.0
    assert RankedResults.model_validate_json(ranked("-f", "json", "-o", "normalize=true")).scale == "probability"


@pytest.mark.parametrize("output", ["json", "jsonl", "tsv", "trec", "table"])
def test_nothing_to_rank(site: Site, run: Callable[..., Any], output: str) -> None:
    site.install("fake_good")
    ran = run("rank", "cat", "-m", "good", "-f", output, stdin="")
    assert (ran.code, ran.err) == (0, "")
    if output == "json":
        assert len(RankedResults.model_validate_json(ran.out)) == 0
    else:
        assert ran.out.split() == ([] if output in ("jsonl", "trec") else ["rank", "score", "id", "text"])


def test_a_terminal_that_is_not_utf8_shows_what_it_can(
    run_apart: Callable[..., Any], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("fake_good")
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    ran = run_apart("rank", "bees", "蜜蜂 bees", "-m", "good", "-f", "tsv")
    assert ran.code == 0
    assert "\\u871c\\u8702 bees" in ran.out


def test_trec_keeps_the_order_where_a_document_has_no_score() -> None:
    results = [Result(doc_id=i, text="", score=score, rank=i + 1) for i, score in enumerate([-5.0, -7.0, None])]
    run = OUTPUTS["trec"](RankedResults(results=results, query="q", has_scores=True), "1")
    scores = [float(line.split()[4]) for line in run.splitlines()]
    assert scores == sorted(scores, reverse=True)
