"""Graphs as people export them: fixed sizes, other types and names, several outputs, probabilities, no head at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from rerank import ModelLoadError, Reranker, RerankError, ScoringError
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_onnx.graph import Graph

WIDTH = 16  # of the toy's token vectors

CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the graph of a folder in place."""
    model = onnx.load(folder / "model.onnx")
    change(model.graph)
    onnx.save(model, folder / "model.onnx")


def fix(rows: int | None, tokens: int | None) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        for own in graph.input:
            for size, value in zip(own.type.tensor_type.shape.dim, (rows, tokens)):
                if value is not None:
                    size.Clear()
                    size.dim_value = value

    return change


def rename(names: dict[str, str]) -> Callable[[Any], None]:
    def change(graph: Any) -> None:
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        for own in (*graph.input, *graph.output):
            own.name = names.get(own.name, own.name)

    return change


def scores(folder: Path, **options: Any) -> list[float]:
    with Reranker(folder, backend="onnx", **options) as reranker:
        results = sorted(reranker.rank(QUERY, DOCUMENTS), key=lambda result: result.index or 0)
        return [float(result.score or 0.0) for result in results]


@pytest.mark.parametrize(("rows", "tokens"), [(1, None), (4, None), (64, None), (None, 96), (1, 96), (4, 96)])
def test_fixed_sizes_are_honoured(toy: Any, rows: int | None, tokens: int | None) -> None:
    own = toy()
    expected = scores(own.folder)
    edit(own.folder, fix(rows, tokens))
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)


def test_a_fixed_length_cuts_documents(toy: Any) -> None:
    own = toy()
    with Reranker(own.folder, max_length=24) as reranker:
        expected = reranker.score(QUERY, "bees " * 100)
    edit(own.folder, fix(None, 24))
    with Reranker(own.folder) as reranker:
        ranked = reranker.rank(QUERY, ["bees " * 100, "bees"])
        assert ranked.diagnostics["truncated"] == 1
        assert reranker.score(QUERY, "bees " * 100) == pytest.approx(expected, abs=1e-5)


def test_fixed_sizes_of_an_encoder(toy: Any) -> None:
    config = {"late_interaction": {"query_tokens": 24, "document_tokens": 24}}
    own = toy(kind="encoder", config=config)
    expected = scores(own.folder)
    edit(own.folder, fix(4, 32))
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)
    edit(own.folder, fix(4, None))
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["INT32", "BOOL", "FLOAT", "FLOAT16", "DOUBLE"])
def test_a_mask_is_cast_to_what_the_graph_declares(toy: Any, kind: str) -> None:
    own = toy()
    expected = scores(own.folder)

    def change(graph: Any) -> None:
        mask = next(given for given in graph.input if given.name == "attention_mask")
        mask.type.tensor_type.elem_type = getattr(TensorProto, kind)

    edit(own.folder, change)
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "names",
    [
        {"attention_mask": "input_mask", "token_type_ids": "segment_ids"},
        {"input_ids": "input", "attention_mask": "mask", "mask": "floats"},
    ],
)
def test_inputs_by_the_names_of_berts_own_code(toy: Any, names: dict[str, str]) -> None:
    own = toy()
    expected = scores(own.folder)
    edit(own.folder, rename(names))
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("config", [None, CLASSIFIER])
@pytest.mark.parametrize("outputs", [["last_hidden_state", "logits"], ["pooler_output", "last_hidden_state", "logits"]])
@pytest.mark.parametrize("name", ["logits", "scores", "output_0"])
def test_a_score_per_row_is_used_before_token_vectors(toy: Any, config: Any, outputs: list[str], name: str) -> None:
    own = toy(outputs=outputs, config=config)
    edit(own.folder, rename({"logits": name}))
    assert scores(own.folder) == pytest.approx([own.pair(QUERY, text) for text in DOCUMENTS], abs=1e-4)


def test_a_classifier_without_its_head_is_refused(toy: Any) -> None:
    own = toy(kind="encoder", config=CLASSIFIER)
    message = (
        r"returns only last_hidden_state, a vector per token, and its config.json says BertForSequenceClassification"
    )
    for options in ({}, {"backend": "onnx"}):
        with pytest.raises(ModelLoadError, match=message):
            Reranker(own.folder, **options)


@pytest.mark.parametrize(
    "config", [{"architectures": ["LlamaForCausalLM"]}, {"architectures": ["GPT2LMHeadModel"]}, None]
)
def test_a_language_model_is_refused(toy: Any, config: Any) -> None:
    own = toy(kind="encoder", config=config)
    edit(own.folder, rename({"last_hidden_state": "logits"}))
    with pytest.raises(ModelLoadError, match="the logits of a language model per token: run it with a backend for"):
        Reranker(own.folder, backend="onnx")


def add_sigmoid(graph: Any) -> None:
    graph.node.append(helper.make_node("Sigmoid", ["logits"], ["probabilities"]))
    graph.output[0].name = "probabilities"


def test_probabilities_are_not_squashed_again(toy: Any) -> None:
    own = toy()
    expected = [1 / (1 + math.exp(-score)) for score in scores(own.folder)]
    edit(own.folder, add_sigmoid)
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)
    assert scores(own.folder, normalize=True) == pytest.approx(expected, abs=1e-5)
    with Reranker(own.folder) as reranker:
        assert reranker.rank(QUERY, DOCUMENTS).scale == "probability"


def test_probabilities_of_two_labels_are_those_of_the_relevant_one(toy: Any) -> None:
    own = toy(labels=2, config={"id2label": {"0": "relevant", "1": "irrelevant"}})
    expected = [1 / (1 + math.exp(own.pair(QUERY, text))) for text in DOCUMENTS]

    def change(graph: Any) -> None:
        graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1))
        graph.output[0].name = "probabilities"

    edit(own.folder, change)
    assert scores(own.folder) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "sign"),
    [
        ({"0": "LABEL_0", "1": "LABEL_1"}, 1),
        ({"0": "irrelevant", "1": "relevant"}, 1),
        ({"0": "entailment", "1": "not_entailment"}, -1),
    ],
)
def test_two_labels_are_read_by_name(toy: Any, labels: dict[str, str], sign: int) -> None:
    own = toy(labels=2, config={"id2label": labels})
    assert scores(own.folder) == pytest.approx([sign * own.pair(QUERY, text) for text in DOCUMENTS], abs=1e-4)


def test_two_labels_that_say_nothing_are_refused(toy: Any) -> None:
    own = toy(labels=2, config={"id2label": {"0": "cats", "1": "dogs"}})
    with pytest.raises(
        ModelLoadError, match="two outputs, 'cats' and 'dogs', and which of them means relevant is unknown"
    ):
        Reranker(own.folder)


def make_logits_by(operator: str, **attributes: Any) -> Callable[[Any], None]:
    """Put an operator at the end of a graph, whose output keeps its name."""

    def change(graph: Any) -> None:
        for node in graph.node:
            node.output[:] = ["raw" if name == "logits" else name for name in node.output]
        graph.node.append(helper.make_node(operator, ["raw"], ["made"], **attributes))
        graph.node.append(helper.make_node("Cast", ["made"], ["logits"], to=TensorProto.FLOAT))

    return change


def test_a_sigmoid_inside_a_graph_is_seen(toy: Any) -> None:
    own = toy()
    expected = [1 / (1 + math.exp(-own.pair(QUERY, text))) for text in DOCUMENTS]
    edit(own.folder, make_logits_by("Sigmoid"))
    assert scores(own.folder) == pytest.approx(expected, abs=1e-5)
    assert scores(own.folder, normalize=True) == pytest.approx(expected, abs=1e-5)
    with Reranker(own.folder) as reranker:
        assert reranker.rank(QUERY, DOCUMENTS).scale == "probability"


def test_a_softmax_inside_a_graph_is_seen(toy: Any) -> None:
    own = toy(labels=2)
    expected = [1 / (1 + math.exp(-own.pair(QUERY, text))) for text in DOCUMENTS]
    edit(own.folder, make_logits_by("Softmax", axis=-1))
    assert scores(own.folder, normalize=True) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["log_probs", "log_probabilities", "logsoftmax"])
def test_logarithms_of_probabilities_are_none(toy: Any, name: str) -> None:
    own = toy(labels=2)
    edit(own.folder, make_logits_by("LogSoftmax", axis=-1))
    edit(own.folder, rename({"logits": name}))
    assert scores(own.folder) == pytest.approx([own.pair(QUERY, text) for text in DOCUMENTS], abs=1e-4)


def test_what_is_called_a_probability_must_be_one(toy: Any) -> None:
    own = toy()
    edit(own.folder, rename({"logits": "probs"}))
    with (
        Reranker(own.folder) as reranker,
        pytest.raises(ScoringError, match="'probs' is called a probability, but has"),
    ):
        reranker.rank(QUERY, DOCUMENTS)


def test_a_class_is_no_score(toy: Any) -> None:
    own = toy(labels=2)

    def change(graph: Any) -> None:
        graph.node.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=-1, keepdims=0))
        graph.node.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]))
        graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2]))

    edit(own.folder, change)
    expected = [1 / (1 + math.exp(-own.pair(QUERY, text))) for text in DOCUMENTS]
    assert scores(own.folder) == pytest.approx(expected, abs=1e-4)


def test_a_graph_that_returns_only_a_class_is_refused(toy: Any) -> None:
    own = toy(labels=2)

    def change(graph: Any) -> None:
        graph.node.append(helper.make_node("ArgMax", ["logits"], ["label"], axis=-1, keepdims=0))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]))

    edit(own.folder, change)
    with pytest.raises(ModelLoadError, match=r"returns label as tensor\(int64\): the class of a row is no score"):
        Reranker(own.folder)


@pytest.mark.parametrize("shape", [["rows"], ["rows", 1]])
def test_names_of_two_labels_say_nothing_of_one_output(toy: Any, shape: list[Any]) -> None:
    own = toy(config={"id2label": {"0": "cats", "1": "dogs"}})

    def change(graph: Any) -> None:
        target = helper.make_tensor("target", TensorProto.INT64, [len(shape)], [-1, 1][: len(shape)])
        graph.initializer.append(target)
        graph.node.append(helper.make_node("Reshape", ["logits", "target"], ["score"]))
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, shape))

    edit(own.folder, change)
    assert scores(own.folder) == pytest.approx([own.pair(QUERY, text) for text in DOCUMENTS], abs=1e-4)


def test_token_ids_of_another_rank_are_refused(toy: Any) -> None:
    own = toy()

    def change(graph: Any) -> None:
        graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [1], [0]))
        graph.node.insert(0, helper.make_node("Unsqueeze", ["input_ids", "axes"], ["rows_of_ids"]))
        for node in list(graph.node)[1:]:
            node.input[:] = ["rows_of_ids" if name == "input_ids" else name for name in node.input]
        ids = next(own for own in graph.input if own.name == "input_ids")
        del ids.type.tensor_type.shape.dim[0]

    edit(own.folder, change)
    with pytest.raises(ModelLoadError, match=r"takes input_ids of shape \['tokens'\]: export the model so that"):
        Reranker(own.folder)


@pytest.mark.parametrize(("name", "config"), [("output", {"vocab_size": WIDTH}), ("lm_logits", None)])
def test_a_language_model_is_known_by_its_vocabulary_too(toy: Any, name: str, config: Any) -> None:
    own = toy(kind="encoder", config=config)
    edit(own.folder, rename({"last_hidden_state": name}))
    with pytest.raises(ModelLoadError, match=rf"returns {name} of shape .*, the logits of a language model per token"):
        Reranker(own.folder, backend="onnx")


@pytest.mark.parametrize(("tokens", "runs"), [(None, 2), (96, 2)])
def test_a_fixed_batch_is_filled(toy: Any, monkeypatch: pytest.MonkeyPatch, tokens: int | None, runs: int) -> None:
    own = toy()
    texts = [f"{'bees ' * 20}{n}" for n in range(16)]
    edit(own.folder, fix(8, tokens))
    with Reranker(own.folder, threads=1) as reranker:
        ran = []
        run = Graph._run
        monkeypatch.setattr(Graph, "_run", lambda *given: ran.append(given) or run(*given))
        reranker.rank(QUERY, texts)
    assert len(ran) == runs


@pytest.mark.parametrize("root", [True, False])
def test_a_graph_too_deep_is_named(toy: Any, root: bool) -> None:
    own = toy(file="onnx/fp32/model.onnx")
    for name in ("tokenizer.json", "config.json"):
        (own.folder / "onnx" / "fp32" / name).write_bytes((own.folder / name).read_bytes())
    expected = scores(own.folder / "onnx" / "fp32")
    if root:
        for options in ({"backend": "onnx"}, {}):
            with pytest.raises(
                RerankError, match=r"onnx.fp32.model\.onnx lies deeper, so give its folder as the model"
            ):
                Reranker(own.folder, **options)
    else:
        for name in ("tokenizer.json", "config.json"):
            (own.folder / name).unlink()
        with pytest.raises(ModelLoadError, match="holds only folders, 'onnx' among them: give the one with"):
            Reranker(own.folder)
    assert expected == pytest.approx([own.pair(QUERY, text) for text in DOCUMENTS], abs=1e-4)


def test_a_suffix_in_capitals(toy: Any) -> None:
    own = toy()
    expected = scores(own.folder)
    (own.folder / "model.onnx").rename(own.folder / "MODEL.ONNX")
    with Reranker(own.folder) as reranker:
        assert reranker.backend == "onnx"
    assert scores(own.folder) == pytest.approx(expected, abs=1e-6)
    assert json.loads((own.folder / "config.json").read_text())
