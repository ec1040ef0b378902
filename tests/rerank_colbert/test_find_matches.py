"""``details["matches"]``: which token matched which, and where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import QUERIES, TEXTS, save_pylate, save_sentence_transformers, save_stanford  # noqa: E402

from rerank import Reranker  # noqa: E402
from rerank_colbert.matches import find_matches  # noqa: E402


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return Reranker(save_stanford(tmp_path_factory.mktemp("matches") / "model"))


def test_matches_add_up_to_the_score(reranker: Reranker) -> None:
    for result in reranker.rank(QUERIES[0], TEXTS, matches=True):
        matches = result.details["matches"]
        assert len(matches) == 32
        assert sum(match["score"] for match in matches) == pytest.approx(result.score, abs=1e-4)
        assert {match["query"] for match in matches} >= {"[CLS]", "[unused0]", "[SEP]", "[MASK]"}


def test_matches_stand_where_they_say(reranker: Reranker) -> None:
    result = reranker.rank("bees", ["Old BEES see, ultraviolet patterns."], matches=True)[0]
    for match in result.details["matches"]:
        if match["start"] is None:
            assert match["document"] in ("[CLS]", "[unused1]", "[SEP]")
        else:
            assert result.text[match["start"] : match["end"]].lower() == match["document"].removeprefix("##")
            assert match["document"] != ","


def test_the_matrix_has_every_product(reranker: Reranker) -> None:
    result = reranker.rank(QUERIES[0], TEXTS, matches="matrix")[0]
    matrix = result.details["matrix"]
    scores = np.array(matrix["scores"])
    assert scores.shape == (len(matrix["query"]), len(matrix["document"]))
    assert len(matrix["spans"]) == len(matrix["document"])
    assert scores.max(axis=1).tolist() == [match["score"] for match in result.details["matches"]]


def test_only_results_are_explained(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    explained: list[str] = []

    def noted(*arguments: Any) -> dict[str, Any]:
        explained.append(arguments[3])
        return find_matches(*arguments)

    monkeypatch.setattr("rerank_colbert.scorer.find_matches", noted)
    ranked = reranker.rank(QUERIES[0], TEXTS, matches=True, top_k=2)
    assert explained == [result.text for result in ranked]
    assert all(result.details["matches"] for result in ranked)
    assert not reranker.rank(QUERIES[0], TEXTS)[0].details


def test_windows_say_which_of_them_matched(reranker: Reranker) -> None:
    text = "Shares rose. " * 30 + "Bees see ultraviolet patterns on petals."
    options = {"long_documents": "chunk", "window": 16, "overlap": 4, "matches": True}
    result = reranker.rank(QUERIES[0], [text], **options)[0]
    matches = result.details["matches"]
    window = result.details["window"]
    assert {match["window"] for match in matches} == {window["index"]}
    assert window["score"] == result.score
    count = len(reranker.scorer.rows.tokens([text])[0])
    assert window["tokens"] == [12 * window["index"], min(12 * window["index"] + 16, count)]
    start, end = window["characters"]
    assert all(start <= match["start"] < match["end"] <= end for match in matches if match["start"] is not None)
    assert sum(match["score"] for match in matches) == pytest.approx(result.score, abs=1e-4)
    for match in matches:
        if match["start"] is not None:
            assert text[match["start"] : match["end"]].lower() == match["document"].removeprefix("##")


def test_the_score_of_the_window_that_won_is_that_of_its_text(reranker: Reranker) -> None:
    text = "Shares rose. " * 30 + QUERIES[0] + " Shares rose." * 30
    ranked = reranker.rank(QUERIES[0], ["short", text], long_documents="chunk", window=16, overlap=4)
    assert ranked.get_result_by_docid(0).details == {}
    window = ranked.get_result_by_docid(1).details["window"]
    start, end = window["characters"]
    assert reranker.score(QUERIES[0], text[start:end]) == pytest.approx(window["score"], abs=1e-4)


@pytest.mark.parametrize("layout", ["prefix that is text", "byte-level", "lowercased"])
def test_places_count_from_the_documents_own_beginning(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / "model"
    if layout == "byte-level":
        save_pylate(folder, "modernbert")
    elif layout == "lowercased":
        save_sentence_transformers(folder, "modernbert", do_lower_case=True)
    else:
        save_sentence_transformers(folder, prompts={"query": "query: ", "document": "passage: "})
    with Reranker(folder) as reranker:
        result = reranker.rank("bees", ["Bees dance, and forage."], matches="matrix")[0]
        spans = [span for span in result.details["matrix"]["spans"] if span]
        assert spans
        assert "".join(result.text[start:end] for start, end in spans).replace(" ", "").lower() == "beesdanceandforage"


def test_vectors_that_were_kept_are_explained_alike(tmp_path: Path) -> None:
    with Reranker(save_stanford(tmp_path / "model"), vectors="memory") as reranker:
        cold = reranker.rank(QUERIES[0], TEXTS, matches=True)
        assert reranker.rank(QUERIES[0], TEXTS, matches=True) == cold
