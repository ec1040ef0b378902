"""Prompts that a checkpoint saved stand before its texts, as sentence-transformers puts them there."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from rerank import ModelLoadError, Reranker
from rerank.cli import cli
from rerank.testing.contract import DOCUMENTS, QUERY

FIND, READ = "Find a passage: ", "Read it: "
LIMITS = {"late_interaction": {"query_tokens": 64, "document_tokens": 64}}


def save(model, **settings):
    settings = {"model_type": "CrossEncoder", **settings}
    (model.folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    (model.folder / "modules.json").write_text("[]")
    return Reranker(model.folder)


def scores(ranked):
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


def explain(folder):
    return CliRunner().invoke(cli, ["explain", str(folder)]).output


def test_a_cross_encoder_joins_its_default_prompt_with_the_query(toy):
    model = toy()
    with save(model, prompts={"web": FIND, "query": "no "}, default_prompt_name="web") as reranker:
        expected = [model.pair(FIND + QUERY, text) for text in DOCUMENTS]
        assert scores(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)
    assert "query: 'Find a passage: {query}' (the checkpoint's own prompt)" in explain(model.folder)


def test_a_prompt_that_is_no_default_is_left_out(toy):
    model = toy()
    with save(model, prompts={"query": FIND}, default_prompt_name=None) as reranker:
        expected = [model.pair(QUERY, text) for text in DOCUMENTS]
        assert scores(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)
    assert "own prompt" not in explain(model.folder)


@pytest.mark.parametrize("prompts", [None, {"other": FIND}, [FIND], {"web": 3}])
def test_a_default_prompt_that_is_no_text_is_an_error(toy, prompts):
    with pytest.raises(ModelLoadError, match=r"config_sentence_transformers\.json.*: fetch the checkpoint again"):
        save(toy(), prompts=prompts, default_prompt_name="web").score(QUERY, DOCUMENTS[0])


@pytest.mark.parametrize("vectors", [None, "memory"])
def test_late_interaction_reads_the_prompt_of_each_role(toy, vectors):
    model = toy(kind="encoder", config=LIMITS)
    save(model, prompts={"query": FIND, "document": READ}, default_prompt_name="document").close()
    with (
        Reranker(model.folder, vectors=vectors) as reranker,
        Reranker(toy(kind="encoder", config=LIMITS).folder) as bare,
    ):
        texts = [text[:80] for text in DOCUMENTS]
        expected = scores(bare.rank(FIND + QUERY, [READ + text for text in texts]))
        assert scores(reranker.rank(QUERY, texts)) == pytest.approx(expected, abs=2e-3)  # kept vectors have 16 bits
        assert expected != pytest.approx(scores(bare.rank(QUERY, texts)), abs=2e-2)
    shown = explain(model.folder)
    assert "query: 'Find a passage: {query}' (the checkpoint's own prompt)" in shown
    assert "document: 'Read it: {document}' (the checkpoint's own prompt)" in shown


def test_a_window_stands_where_it_does_without_the_prompt(toy):
    text = " ".join(DOCUMENTS)
    options = {"long_documents": "chunk", "max_length": 30, "overlap": 4}
    with save(toy(kind="encoder", config=LIMITS), prompts={"document": READ}) as reranker:
        windows = [
            reranker.rank(QUERY, [text], aggregate=how, **options)[0].details["window"] for how in ("first", "max")
        ]
    for window in windows:
        start, end = window["characters"]
        first, last = window["tokens"]
        assert 0 <= start < end <= len(text)
        assert 0 <= first < last
        assert text[start:end] == text[start:end].strip()
    assert windows[0]["characters"][0] == windows[0]["tokens"][0] == 0
