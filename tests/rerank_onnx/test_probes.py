"""What a graph is asked at load: whether padding changes its output, and how many tokens it reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from rerank import ModelLoadError, Reranker
from rerank_onnx.graph import Graph

INPUTS = ("input_ids", "attention_mask", "position_ids")
LONG = "bees find flowers " * 3000
TEXTS = [
    "bees",
    "a flower",
    "shares rose",
    "bees find flowers " * 9,
    "a nurse bee feeds larvae with royal jelly",
    "b e e s",
]


def read_padding(folder):
    """Let a graph take every token as one of the text, as a model without a mask does."""
    model = onnx.load(folder / "model.onnx")
    place, mask = next((n, node) for n, node in enumerate(model.graph.node) if "mask" in node.output)
    mask.output[:] = ["given"]
    model.graph.node.insert(place + 1, onnx.helper.make_node("Max", ["given", "one"], ["mask"]))
    onnx.save(model, folder / "model.onnx")


@pytest.fixture
def lengths(monkeypatch):
    """The lengths in each batch that runs."""
    batches = []
    run = Graph._run
    monkeypatch.setattr(
        Graph, "_run", lambda graph, rows, types: batches.append({*map(len, rows)}) or run(graph, rows, types)
    )
    return batches


@pytest.mark.parametrize("kind", ["classifier", "encoder"])
@pytest.mark.parametrize("pads", [True, False])
def test_a_score_is_that_of_the_document_alone(toy, kind, pads, lengths):
    model = toy(kind=kind)
    if not pads:
        read_padding(model.folder)
    with Reranker(model.folder, backend="onnx", threads=1) as reranker:
        lengths.clear()
        ranked = reranker.rank("bees", TEXTS)
        assert any(len(batch) > 1 for batch in lengths) == pads
        for result in ranked:
            assert result.score == pytest.approx(reranker.score("bees", result.text), abs=1e-5)
            if kind == "classifier":
                assert result.score == pytest.approx(model.pair("bees", result.text), abs=1e-4)


def test_a_graph_that_quantises_a_whole_batch_is_padded_all_the_same(toy, lengths):
    with Reranker(toy(dynamic=True).folder, backend="onnx", threads=1) as reranker:
        lengths.clear()
        reranker.rank("bees", TEXTS)
    assert any(len(batch) > 1 for batch in lengths)


def test_a_graph_that_was_traced_at_a_short_length_reads_no_more(toy):
    """As one of Longformer's, whose type states 512 positions; the graph has a table of 40."""
    model = toy(inputs=INPUTS, config={"model_type": "longformer", "max_position_embeddings": 512, "pad_token_id": 1})
    graph = onnx.load(model.folder / "model.onnx")
    (table,) = [tensor for tensor in graph.graph.initializer if tensor.name == "positions"]
    table.CopyFrom(onnx.numpy_helper.from_array(model.weights["positions"][:40], "positions"))
    onnx.save(graph, model.folder / "model.onnx")
    with Reranker(model.folder, backend="onnx") as reranker:
        assert reranker.scorer.limits.longest == 38
        assert len(reranker.rank("bees", [LONG, "bees"])) == 2


def test_a_graph_that_reads_nothing_is_refused(toy):
    model = toy(inputs=INPUTS, config={"model_type": "unknown"})
    graph = onnx.load(model.folder / "model.onnx")
    (table,) = [tensor for tensor in graph.graph.initializer if tensor.name == "positions"]
    table.CopyFrom(onnx.numpy_helper.from_array(model.weights["positions"][:2], "positions"))
    onnx.save(graph, model.folder / "model.onnx")
    with pytest.raises(
        ModelLoadError, match=r"fails on rows of 512 tokens, which its configuration allows, and on rows of 4"
    ):
        Reranker(model.folder, backend="onnx")


def test_a_table_smaller_than_the_configuration_says_is_found(toy):
    model = toy(inputs=INPUTS, config={"max_position_embeddings": 900})
    with Reranker(model.folder, backend="onnx") as reranker:
        assert reranker.rank("bees", [LONG, "bees"]).diagnostics["truncated"] == 1
        assert reranker.scorer.limits.longest == 512


def test_positions_of_robertas_kind_begin_behind_the_padding(toy):
    config = {"model_type": "roberta", "pad_token_id": 1}
    model = toy(inputs=INPUTS, tokenizer="roberta", config=config)
    encoding = model.tokenizer.encode("bees", "flowers")
    model.weights["positions"][:] = np.roll(model.weights["positions"], -2, axis=0)
    with Reranker(model.folder, backend="onnx") as reranker:
        assert reranker.score("bees", "flowers") == pytest.approx(model.row(encoding.ids, encoding.type_ids), abs=1e-4)
