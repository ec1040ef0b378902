"""Scores of pair graphs equal the same network in numpy, for every batch, length and set of inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank import InvalidOptionsError, OutOfMemoryError, Reranker, ScoringError
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_onnx.graph import BATCH_TOKENS

EVERY_INPUT = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


def scores(ranked):
    return [r.score for r in sorted(ranked, key=lambda r: r.index)]


@pytest.fixture(scope="module")
def reranker(cross_encoder):
    """In one stream, whose batches come in the order of the plan."""
    return Reranker(cross_encoder.folder, threads=1)


def test_streams_score_as_one_does(reranker, cross_encoder):
    texts = [f"{text} {n}" for text in DOCUMENTS for n in range(12)]
    with Reranker(cross_encoder.folder) as several:
        ranked = several.rank(QUERY, texts, max_batch_tokens=200)
    assert scores(ranked) == pytest.approx(scores(reranker.rank(QUERY, texts)), abs=1e-5)
    assert scores(ranked) == pytest.approx([cross_encoder.pair(QUERY, text) for text in texts], abs=1e-5)


@pytest.fixture
def shapes(reranker, monkeypatch):
    """The shapes of every batch that reaches the graph."""
    seen = []
    session = reranker.scorer.graph.session
    run = session.run

    def spy(outputs, feed, options=None):
        seen.append(feed["input_ids"].shape)
        return run(outputs, feed, options)

    monkeypatch.setattr(session, "run", spy)
    return seen


@pytest.mark.parametrize("tokenizer", ["bert", "roberta", "t5"])
@pytest.mark.parametrize("labels", [1, 2])
def test_scores_are_those_of_the_network(toy, tokenizer, labels):
    model = toy(tokenizer=tokenizer, labels=labels)
    ranked = Reranker(model.folder).rank(QUERY, DOCUMENTS)
    assert scores(ranked) == pytest.approx([model.pair(QUERY, text) for text in DOCUMENTS], abs=1e-5)
    assert ranked.scale == "logit"
    assert all(type(result.score) is float for result in ranked)


@pytest.mark.parametrize(
    "inputs",
    [
        ("input_ids", "attention_mask"),
        ("attention_mask", "input_ids", "token_type_ids"),
        ("input_ids", "attention_mask", "position_ids"),
        EVERY_INPUT,
    ],
    ids=",".join,
)
@pytest.mark.parametrize("integers", ["INT64", "INT32"])
def test_a_graph_gets_exactly_the_inputs_it_names(toy, inputs, integers):
    model = toy(inputs=inputs, integers=integers)
    expected = [model.pair(QUERY, text) for text in DOCUMENTS]
    assert scores(Reranker(model.folder).rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_token_type_ids_of_zero_are_given_too(toy):
    model = toy(tokenizer="roberta")  # all segments 0: the graph wants them all the same
    expected = [model.pair(QUERY, text) for text in DOCUMENTS]
    assert scores(Reranker(model.folder).rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_a_flat_output_is_one_logit_a_row(toy):
    model = toy(kind="flat")
    expected = [model.pair(QUERY, text) for text in DOCUMENTS]
    assert scores(Reranker(model.folder).rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_logits_are_found_among_several_outputs(toy):
    model = toy(outputs=["pooler_output", "logits"])
    expected = [model.pair(QUERY, text) for text in DOCUMENTS]
    assert scores(Reranker(model.folder).rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_two_outputs_normalise_to_their_softmax(toy):
    model = toy(labels=2)
    for result in Reranker(model.folder).rank(QUERY, DOCUMENTS, normalize=True):
        encoding = model.tokenizer.encode(QUERY, result.text)
        exponentials = np.exp(model.logits(encoding.ids, encoding.type_ids))
        assert result.score == pytest.approx(exponentials[1] / exponentials.sum(), abs=1e-5)


@given(
    texts=st.lists(st.text(alphabet="abc beé。🐝", max_size=60), min_size=1, max_size=12),
    budget=st.integers(1, 600),
    size=st.none() | st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_padding_and_batches_never_matter(reranker, cross_encoder, texts, budget, size):
    ranked = reranker.rank(QUERY, texts, max_batch_tokens=budget, batch_size=size)
    assert scores(ranked) == pytest.approx([cross_encoder.pair(QUERY, text) for text in texts], abs=1e-5)


def test_batches_hold_to_the_token_budget(reranker, cross_encoder, shapes):
    texts = [text * n for text, n in itertools.product(DOCUMENTS[:3], (1, 2, 3, 5))]
    reranker.rank(QUERY, texts, max_batch_tokens=300)
    lengths = sorted((len(cross_encoder.tokenizer.encode(QUERY, text)) for text in texts), reverse=True)
    assert sum(rows for rows, _ in shapes) == len(texts)
    assert all(rows * width <= 300 or rows == 1 for rows, width in shapes)
    assert [width for _, width in shapes] == [
        lengths[start] for start in itertools.accumulate([0, *(rows for rows, _ in shapes[:-1])])
    ]
    shapes.clear()
    reranker.rank(QUERY, texts, batch_size=5, max_batch_tokens=10**6)
    assert [rows for rows, _ in shapes] == [5, 5, 2]


def test_default_batches_are_bounded(reranker, shapes):
    reranker.rank(QUERY, [f"{text} {n}" for text in DOCUMENTS for n in range(20)])
    assert len(shapes) > 1
    assert all(rows * width <= BATCH_TOKENS for rows, width in shapes)


def test_short_requests_share_batches(reranker, cross_encoder, shapes):
    many = list(reranker.rank_many([(query, ["A flower.", "Honey."]) for query in ("bees", "what is a hive?")]))
    assert len(shapes) == 1
    for ranked in many:
        for result in ranked:
            assert result.score == pytest.approx(cross_encoder.pair(ranked.query, result.text), abs=1e-5)


def test_a_batch_without_memory_is_halved(reranker, cross_encoder, monkeypatch):
    session = reranker.scorer.graph.session
    run, sizes = session.run, []

    def cramped(outputs, feed, options=None):
        sizes.append(len(feed["input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 17700000000")
        return run(outputs, feed, options)

    monkeypatch.setattr(session, "run", cramped)
    expected = [cross_encoder.pair(QUERY, text) for text in DOCUMENTS]
    assert scores(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)
    assert max(sizes) > 2


@pytest.mark.parametrize(
    ("message", "kind"),
    [("bad_alloc: cannot allocate memory", OutOfMemoryError), ("index out of bounds", ScoringError)],
)
def test_a_failing_graph_is_a_typed_error(reranker, monkeypatch, message, kind):
    def fail(outputs, feed, options=None):
        raise RuntimeError(message)

    monkeypatch.setattr(reranker.scorer.graph.session, "run", fail)
    with pytest.raises(kind) as caught:
        reranker.rank(QUERY, DOCUMENTS[:1])
    assert type(caught.value) is kind


def truncated_row(tokenizer, query, document, max_length, query_max_length):
    """The rule, written out for ``[CLS] query [SEP] document [SEP]``."""
    query_ids = tokenizer.encode(query, add_special_tokens=False).ids[:query_max_length]
    document_ids = tokenizer.encode(document, add_special_tokens=False).ids
    while len(query_ids) + len(document_ids) + 3 > max_length:
        (document_ids or query_ids).pop()
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    first, second = [cls, *query_ids, sep], [*document_ids, sep]
    return first + second, [0] * len(first) + [1] * len(second)


@pytest.mark.parametrize(("max_length", "query_max_length"), [(40, None), (40, 4), (12, 30), (8, 1), (8, 99)])
@pytest.mark.parametrize("query", [QUERY, "bees", "why do shares rise and fall with the rate of a bank? " * 3])
def test_the_document_yields_first(reranker, cross_encoder, max_length, query_max_length, query):
    texts = [*DOCUMENTS, "word " * 100, ""]
    ranked = reranker.rank(query, texts, max_length=max_length, query_max_length=query_max_length)
    limit = query_max_length or max_length * 3 // 4
    rows = [truncated_row(cross_encoder.tokenizer, query, text, max_length, limit) for text in texts]
    assert scores(ranked) == pytest.approx([cross_encoder.row(*row) for row in rows], abs=1e-5)
    plain = lambda text: len(cross_encoder.tokenizer.encode(text, add_special_tokens=False))  # noqa: E731
    kept = min(plain(query), limit, max_length - 3)
    assert ranked.diagnostics["query_truncated"] == (kept < plain(query))
    assert ranked.diagnostics["truncated"] == sum(plain(text) > max_length - 3 - kept for text in texts)


def test_rows_end_at_the_models_own_limit(toy):
    model = toy(inputs=EVERY_INPUT, config={"max_position_embeddings": 64})
    ranked = Reranker(model.folder).rank(QUERY, ["word " * 300, "A flower."])
    row = truncated_row(model.tokenizer, QUERY, "word " * 300, 64, 48)
    assert scores(ranked)[0] == pytest.approx(model.row(*row), abs=1e-5)
    assert ranked.diagnostics["truncated"] == 1


def test_a_row_is_at_most_1024_tokens_by_default(toy):
    model = toy(config={"max_position_embeddings": 8192})
    row = truncated_row(model.tokenizer, QUERY, "word " * 3000, 1024, 768)
    assert Reranker(model.folder).score(QUERY, "word " * 3000) == pytest.approx(
        model.row(*row), abs=1e-4
    )  # long sums in fp32


@pytest.mark.parametrize("aggregate", ["max", "mean", "first"])
@pytest.mark.parametrize(("window", "overlap"), [(None, 0), (None, 5), (10, 0), (10, 3), (7, 6)])
def test_windows_of_long_documents(reranker, cross_encoder, aggregate, window, overlap):
    texts = ["A flower.", " ".join(DOCUMENTS[:3]), "", " ".join(DOCUMENTS[:1] * 4)]
    tokenizer = cross_encoder.tokenizer
    room = 40 - 3 - len(tokenizer.encode(QUERY, add_special_tokens=False))
    size = min(room, window or room)
    expected = []
    for text in texts:
        ids, start, values = tokenizer.encode(text, add_special_tokens=False).ids, 0, []
        while True:
            head = tokenizer.encode(QUERY).ids
            tail = [*ids[start : start + size], tokenizer.token_to_id("[SEP]")]
            values.append(cross_encoder.row(head + tail, [0] * len(head) + [1] * len(tail)))
            if start + size >= len(ids):
                break
            start += size - overlap
        expected.append({"max": max(values), "mean": sum(values) / len(values), "first": values[0]}[aggregate])
    ranked = reranker.rank(
        QUERY, texts, long_documents="chunk", max_length=40, window=window, overlap=overlap, aggregate=aggregate
    )
    assert scores(ranked) == pytest.approx(expected, abs=1e-5)
    assert ranked.diagnostics["truncated"] == 0


def test_windows_smaller_than_their_overlap_are_an_error(reranker):
    with pytest.raises(InvalidOptionsError, match="overlap"):
        reranker.rank(QUERY, ["word " * 100], long_documents="chunk", window=4, overlap=4)


def test_the_callers_mappings_stay_as_they_are(reranker):
    passages = [{"id": n, "text": text, "meta": {"source": "test"}} for n, text in enumerate(DOCUMENTS)]
    before = [dict(passage) for passage in passages]
    ranked = reranker.rank(QUERY, passages)
    assert passages == before
    assert all("score" not in passage for passage in passages)
    assert type(ranked.to_dicts()[0]["score"]) is float


def test_a_length_beyond_the_models_positions_is_named(toy):
    model = toy(config={"max_position_embeddings": 40})
    with pytest.raises(InvalidOptionsError, match="max_length=41 is beyond the 40 tokens"):
        Reranker(model.folder).rank(QUERY, DOCUMENTS, max_length=41)
