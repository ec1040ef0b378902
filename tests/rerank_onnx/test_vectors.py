"""Document vectors that are kept: the same scores to the bit whether kept or new, and nothing is encoded twice."""

from __future__ import annotations

import numpy as np
import pytest

from rerank import InvalidOptionsError, Reranker
from rerank.testing.contract import DOCUMENTS, OTHER_QUERY, QUERY, BackendContract
from rerank_vectors import EncodesDocuments

DOCUMENT_TOKENS = 24  # what conftest's `encoder` has in its configuration
DISTINCT = len({*DOCUMENTS})
TEXTS = [*DOCUMENTS, "", "\u200b", " ".join(DOCUMENTS)]


@pytest.fixture(scope="module")
def plain(encoder):
    return Reranker(encoder.folder)


@pytest.fixture(params=["memory", "disk"])
def place(request, tmp_path):
    return "memory" if request.param == "memory" else tmp_path / "kept"


@pytest.fixture
def keeping(encoder, place):
    with Reranker(encoder.folder, vectors=place) as reranker:
        yield reranker


def scores(ranked):
    return [r.score for r in sorted(ranked, key=lambda r: r.index)]


@pytest.fixture
def rows(monkeypatch):
    """How many rows each run of a reranker's graph has: ``rows(reranker)`` is a list that grows."""

    def watch(reranker):
        session, counts = reranker.scorer.graph.session, []
        run = session.run

        def counted(outputs, feed, options=None):
            counts.append(len(feed["input_ids"]))
            return run(outputs, feed, options)

        monkeypatch.setattr(session, "run", counted)
        return counts

    return watch


class TestContract(BackendContract):
    better = (QUERY, QUERY, DOCUMENTS[1])

    @pytest.fixture
    def reranker(self, keeping):
        return keeping


class TestContractOfInt8(BackendContract):
    better = (QUERY, QUERY, DOCUMENTS[1])

    @pytest.fixture
    def reranker(self, encoder, tmp_path):
        return Reranker(encoder.folder, vectors=tmp_path / "kept", vectors_dtype="int8")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_length": 10},
        {"long_documents": "chunk", "overlap": 5},
        {"long_documents": "chunk", "window": 9, "overlap": 4, "aggregate": "mean"},
        {"long_documents": "chunk", "window": 9, "overlap": 4, "aggregate": "first"},
    ],
)
def test_scores_are_those_without_and_stay_the_same_to_the_bit(plain, keeping, options):
    expected = plain.rank(QUERY, TEXTS, **options)
    first = keeping.rank(QUERY, TEXTS, **options)
    assert scores(first) == pytest.approx(scores(expected), abs=2e-3)
    assert first.diagnostics == expected.diagnostics
    for _ in range(2):
        again = keeping.rank(QUERY, TEXTS[::-1], **options)
        assert scores(again)[::-1] == scores(first)
        assert again.diagnostics == expected.diagnostics


def test_int8_is_close(plain, encoder, tmp_path):
    reranker = Reranker(encoder.folder, vectors=tmp_path, vectors_dtype="int8")
    assert scores(reranker.rank(QUERY, TEXTS)) == pytest.approx(scores(plain.rank(QUERY, TEXTS)), abs=0.02)


def test_a_document_is_encoded_once(keeping, rows):
    counts = rows(keeping)
    keeping.rank(QUERY, DOCUMENTS)
    assert sum(counts) == DISTINCT + 1
    counts.clear()
    keeping.rank(OTHER_QUERY, DOCUMENTS)
    assert counts == [1]  # the query
    keeping.rank(QUERY, DOCUMENTS, max_length=12)  # other vectors
    assert sum(counts) == 1 + DISTINCT + 1
    counts.clear()
    keeping.rank(QUERY, DOCUMENTS, aggregate="mean", batch_size=2, query_max_length=4)  # the same
    assert counts == [1]


def test_requests_share_documents(keeping, plain, rows):
    counts = rows(keeping)
    requests = [(QUERY, DOCUMENTS), (OTHER_QUERY, DOCUMENTS[::-1]), (QUERY, DOCUMENTS[:2])]
    ranked = list(keeping.rank_many(requests))
    assert sum(counts) == DISTINCT + 2
    for one, expected in zip(ranked, plain.rank_many(requests)):
        assert scores(one) == pytest.approx(scores(expected), abs=2e-3)
        assert one.diagnostics == expected.diagnostics


def test_another_reranker_finds_what_is_on_disk(encoder, tmp_path, rows):
    with Reranker(encoder.folder, vectors=tmp_path) as reranker:
        first = scores(reranker.rank(QUERY, DOCUMENTS))
    with Reranker(encoder.folder, vectors=tmp_path) as reranker:
        counts = rows(reranker)
        assert scores(reranker.rank(QUERY, DOCUMENTS)) == first
        assert counts == [1]


def test_what_is_kept_are_unit_vectors_the_pooled_one_first(encoder, keeping):
    keeping.rank(QUERY, [DOCUMENTS[0]])
    cache = keeping.scorer.cache
    (document,) = cache.encode([DOCUMENTS[0]], lambda texts: [], {"max_length": DOCUMENT_TOKENS})
    vectors = encoder.single(DOCUMENTS[0], DOCUMENT_TOKENS)
    expected = np.vstack([vectors.mean(axis=0, keepdims=True), vectors[1:-1]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert document.windows[0] == pytest.approx(expected, abs=1e-3)


def test_documents_encoded_beforehand(keeping, rows):
    scorer, counts = keeping.scorer, rows(keeping)
    assert isinstance(scorer, EncodesDocuments)
    assert scorer.encode_documents(DOCUMENTS, keeping.options).encoded == DISTINCT
    assert scorer.encode_documents([*DOCUMENTS, "new"], keeping.options).encoded == 1
    counts.clear()
    keeping.rank(QUERY, [*DOCUMENTS, "new"])
    assert counts == [1]


def test_without_a_place_nothing_can_be_encoded_beforehand(plain):
    with pytest.raises(InvalidOptionsError, match="load the model with vectors="):
        plain.scorer.encode_documents(DOCUMENTS, plain.options)


def test_a_cross_encoder_keeps_no_vectors(cross_encoder):
    with pytest.raises(InvalidOptionsError, match=r"is a cross-encoder.*only late interaction"):
        Reranker(cross_encoder.folder, vectors="memory")
    assert not isinstance(Reranker(cross_encoder.folder).scorer, EncodesDocuments)


def test_a_graph_that_leaves_its_width_free(toy, plain, tmp_path):
    import onnx

    model = toy(kind="encoder", config={"late_interaction": {"query_tokens": 12, "document_tokens": DOCUMENT_TOKENS}})
    graph = onnx.load(model.folder / "model.onnx")
    graph.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "width"
    onnx.save(graph, model.folder / "model.onnx")
    reranker = Reranker(model.folder, vectors=tmp_path)
    assert scores(reranker.rank(QUERY, TEXTS)) == pytest.approx(scores(plain.rank(QUERY, TEXTS)), abs=2e-3)


def test_another_graph_of_the_checkpoint_has_vectors_of_its_own(toy, tmp_path):
    folder = toy(kind="encoder", file="onnx/model.onnx").folder
    toy(kind="encoder", file="onnx/model_quantized.onnx", folder=folder, seed=1)
    differ = [
        Reranker(folder, vectors=tmp_path, quantized=quantized).score(QUERY, DOCUMENTS[0])
        for quantized in (False, True)
    ]
    assert differ[0] != differ[1]


def test_a_reranker_with_vectors_pickles(encoder, tmp_path):
    import pickle

    with Reranker(encoder.folder, vectors=str(tmp_path)) as reranker:
        expected = scores(reranker.rank(QUERY, DOCUMENTS))
        copy = pickle.loads(pickle.dumps(reranker))
    assert copy.options.vectors == tmp_path
    assert scores(copy.rank(QUERY, DOCUMENTS)) == expected
