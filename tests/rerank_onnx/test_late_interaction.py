"""Scores of encoder graphs equal the formula in three loops, and the embedded model's evaluation."""

from __future__ import annotations

import ast
import math

import numpy as np
import pytest
from tokenizers import Tokenizer

from rerank import InvalidOptionsError, ModelLoadError, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY

QUERY_TOKENS, DOCUMENT_TOKENS = 12, 24  # what conftest's `encoder` has in its configuration


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / norms if norms else 0.0


def rule(query, document, weight=0.5):
    """MaxSim over word tokens plus a share of the pooled cosine, of token vectors with one special at either end."""
    best = [max((cosine(q, d) for d in document[1:-1]), default=0.0) for q in query[1:-1]]
    maxsim = sum(best) / len(best) if best else 0.0
    return maxsim + weight * cosine(query.mean(axis=0), document.mean(axis=0))


def scores(ranked):
    return [r.score for r in sorted(ranked, key=lambda r: r.index)]


@pytest.fixture(scope="module")
def reranker(encoder):
    return Reranker(encoder.folder)


def test_scores_are_those_of_the_rule(reranker, encoder):
    ranked = reranker.rank(QUERY, DOCUMENTS)
    query = encoder.single(QUERY, QUERY_TOKENS)
    expected = [rule(query, encoder.single(text, DOCUMENT_TOKENS)) for text in DOCUMENTS]
    assert scores(ranked) == pytest.approx(expected, abs=1e-5)
    assert ranked.scale == "similarity"
    assert all(type(result.score) is float for result in ranked)
    long = [len(encoder.tokenizer.encode(text)) > DOCUMENT_TOKENS for text in DOCUMENTS]
    assert 0 < ranked.diagnostics["truncated"] == sum(long) < len(DOCUMENTS)


def test_cosines_below_zero_count(encoder, reranker, monkeypatch):
    """A maximum that starts at 0, or that sees padding's zeros, would hide them."""
    scorer = reranker.scorer
    run = scorer.graph.session.run

    def opposed(outputs, feed, options=None):
        (hidden,) = run(outputs, feed, options)
        sign = np.where(feed["attention_mask"].sum(axis=1) > 8, 1.0, -1.0)  # the query is the longer one
        return [(np.abs(hidden) * sign[:, None, None]).astype(np.float32)]

    monkeypatch.setattr(scorer.graph.session, "run", opposed)
    ranked = reranker.rank(QUERY, ["a flower", "bees", "the flower bees"])
    assert all(result.score < -0.5 for result in ranked)
    query = np.abs(encoder.single(QUERY, QUERY_TOKENS))
    assert len(query) > 8
    for result in ranked:
        document = -np.abs(encoder.single(result.text, DOCUMENT_TOKENS))
        assert len(document) <= 8
        assert result.score == pytest.approx(rule(query, document), abs=1e-5)


@pytest.mark.parametrize("empty", ["", " ", "\x00", "\u200b"])
def test_a_text_without_word_tokens_has_its_pooled_cosine_alone(reranker, encoder, empty):
    assert len(encoder.tokenizer.encode(empty)) == 2
    query = encoder.single(QUERY, QUERY_TOKENS)
    pooled = cosine(query.mean(axis=0), encoder.single(empty, DOCUMENT_TOKENS).mean(axis=0))
    assert reranker.score(QUERY, empty) == pytest.approx(0.5 * pooled, abs=1e-5)


def test_a_query_without_word_tokens_has_the_pooled_cosine_alone(reranker, encoder):
    text = DOCUMENTS[0]
    pooled = cosine(encoder.single("\u200b", 9).mean(axis=0), encoder.single(text, DOCUMENT_TOKENS).mean(axis=0))
    assert reranker.score("\u200b", text) == pytest.approx(0.5 * pooled, abs=1e-5)


def test_the_query_is_cut_at_its_own_limit(reranker, encoder):
    long = "why do shares rise and fall with the rate of a bank? " * 3
    ranked = reranker.rank(long, DOCUMENTS)
    assert ranked.diagnostics["query_truncated"] is True
    query = encoder.single(long, QUERY_TOKENS)
    expected = [rule(query, encoder.single(text, DOCUMENT_TOKENS)) for text in DOCUMENTS]
    assert scores(ranked) == pytest.approx(expected, abs=1e-5)


def test_limits_can_be_set(reranker, encoder):
    ranked = reranker.rank(QUERY, DOCUMENTS, max_length=10, query_max_length=5)
    query = encoder.single(QUERY, 5 + 2)  # its special tokens are not counted
    assert scores(ranked) == pytest.approx([rule(query, encoder.single(text, 10)) for text in DOCUMENTS], abs=1e-5)


def test_the_configuration_says_how_to_score(toy):
    settings = {"query_tokens": 6, "document_tokens": 9, "pooled_weight": 0.25}
    model = toy(kind="encoder", config={"late_interaction": settings})
    query = model.single(QUERY, 6)
    expected = [rule(query, model.single(text, 9), weight=0.25) for text in DOCUMENTS]
    assert scores(Reranker(model.folder).rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_a_tokenizer_with_an_ending_alone(toy):
    """T5 puts nothing before a text: its first token is a word."""
    model = toy(kind="encoder", tokenizer="t5")
    query, document = model.single(QUERY, 48), model.single(DOCUMENTS[0], 256)
    best = [max(cosine(q, d) for d in document[:-1]) for q in query[:-1]]
    expected = sum(best) / len(best) + 0.5 * cosine(query.mean(axis=0), document.mean(axis=0))
    assert Reranker(model.folder).score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("aggregate", ["max", "mean", "first"])
def test_windows_of_long_documents(reranker, encoder, aggregate):
    text = " ".join(DOCUMENTS[:3])
    whole = encoder.tokenizer.encode(text, add_special_tokens=False).ids
    query = encoder.single(QUERY, QUERY_TOKENS)
    cls, sep = encoder.tokenizer.token_to_id("[CLS]"), encoder.tokenizer.token_to_id("[SEP]")
    values, start = [], 0
    while True:
        ids = [cls, *whole[start : start + DOCUMENT_TOKENS - 2], sep]
        values.append(rule(query, encoder.vectors(ids, [0] * len(ids))))
        if start + DOCUMENT_TOKENS - 2 >= len(whole):
            break
        start += DOCUMENT_TOKENS - 2 - 4
    assert len(values) > 2
    expected = {"max": max(values), "mean": sum(values) / len(values), "first": values[0]}[aggregate]
    score = reranker.score(QUERY, text, long_documents="chunk", overlap=4, aggregate=aggregate)
    assert score == pytest.approx(expected, abs=1e-5)


def test_token_vectors_are_found_among_several_outputs(toy):
    model = toy(kind="encoder", outputs=["pooler_output", "last_hidden_state"])
    expected = rule(model.single(QUERY, 48), model.single(DOCUMENTS[0], 256))
    assert Reranker(model.folder).score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-5)


def test_pooled_vectors_are_no_reranker(toy):
    folder = toy(kind="encoder", outputs=["pooler_output"]).folder
    with pytest.raises(ModelLoadError, match=r"pooler_output.*one or two numbers per row"):
        Reranker(folder)


def test_a_similarity_has_no_probability(reranker):
    with pytest.raises(InvalidOptionsError, match="normalize"):
        reranker.rank(QUERY, DOCUMENTS, normalize=True)


def test_agrees_with_the_embedded_models_evaluation(reranker, encoder, shared):
    """`score` of the file that chose the model, read without running the rest of it."""
    tree = ast.parse((shared / "models/nano/evaluate.py").read_text())
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ("unit", "score")]
    scope = {"np": np}
    exec(compile(ast.Module(kept, []), "evaluate.py", "exec"), scope)
    query = encoder.single(QUERY, QUERY_TOKENS)
    for text in [*DOCUMENTS, "", "\u200b"]:
        maxsim, pooled = scope["score"](query, encoder.single(text, DOCUMENT_TOKENS))
        assert reranker.score(QUERY, text) == pytest.approx(maxsim + 0.5 * pooled, abs=1e-5)


def test_truncation_and_padding_of_the_tokenizer_file_are_put_aside(toy):
    model = toy(kind="encoder")
    set_up = Tokenizer.from_str(model.tokenizer.to_str())
    set_up.enable_truncation(6)
    set_up.enable_padding(length=64)
    set_up.save(str(model.folder / "tokenizer.json"))
    expected = rule(model.single(QUERY, 48), model.single(DOCUMENTS[0], 256))
    assert Reranker(model.folder).score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-5)
