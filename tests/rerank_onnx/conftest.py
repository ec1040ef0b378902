"""Small graphs and tokenizers built for the tests, each with its computation written out in numpy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from rerank.testing.contract import DOCUMENTS, QUERY

WIDTH = 16  # of a token vector
POSITIONS = 512
TEXTS = [
    *DOCUMENTS,
    QUERY,
    "A nurse bee feeds larvae with royal jelly, and a forager carries pollen on her hind legs.",
    "Shares rose when the bank cut its rate, and fell when inflation came in above the forecast.",
    "abcdefghijklmnopqrstuvwxyz 0123456789",
]


def make_tokenizer(kind: str) -> Tokenizer:
    """A small tokenizer with the pair layout of BERT, RoBERTa or T5."""
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer.train_from_iterator(
            TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
        )
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    elif kind == "roberta":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            TEXTS,
            trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.train_from_iterator(
            TEXTS,
            trainers.UnigramTrainer(
                vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
            ),
        )
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
    return tokenizer


@dataclass(frozen=True)
class Toy:
    """A checkpoint of one layer of attention, and the same in numpy, one row at a time and without padding."""

    folder: Path
    tokenizer: Tokenizer
    weights: Mapping[str, np.ndarray]
    inputs: tuple[str, ...]

    def vectors(self, ids: Sequence[int], types: Sequence[int]) -> np.ndarray:
        """The token vectors of one row: ``(tokens, width)``."""
        x = self.weights["words"][list(ids)].astype(np.float64)
        if "token_type_ids" in self.inputs:
            x = x + self.weights["types"][list(types)]
        if "position_ids" in self.inputs:
            x = x + self.weights["positions"][: len(ids)]
        scores = x @ x.T / 4  # (tokens, tokens)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed = weights / weights.sum(axis=1, keepdims=True) @ x  # (tokens, width)
        return np.tanh(mixed @ self.weights["dense"] + x)

    def logits(self, ids: Sequence[int], types: Sequence[int]) -> np.ndarray:
        """The output of one row: ``(labels,)``."""
        return self.vectors(ids, types).mean(axis=0) @ self.weights["head"] + self.weights["bias"]

    def pair(self, query: str, document: str) -> float:
        """The score of a whole pair, as the tokenizer itself joins it."""
        encoding = self.tokenizer.encode(query, document)
        return self.row(encoding.ids, encoding.type_ids)

    def row(self, ids: Sequence[int], types: Sequence[int]) -> float:
        """The score of one row."""
        logits = self.logits(ids, types)
        return float(logits[0] if len(logits) == 1 else logits[1] - logits[0])

    def single(self, text: str, limit: int) -> np.ndarray:
        """The token vectors of one text, cut to ``limit`` tokens with specials."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.enable_truncation(limit)
        ids = tokenizer.encode(text).ids
        return self.vectors(ids, [0] * len(ids))


BERT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def build_graph(
    weights: Mapping[str, np.ndarray],
    *,
    kind: str = "classifier",
    inputs: Sequence[str] = BERT_INPUTS,
    integers: str = "INT64",
    outputs: Sequence[str] | None = None,
    dynamic: bool = False,
) -> Any:
    """The graph that `Toy` writes out.

    Args:
        kind: ``classifier`` (rows × labels), ``flat`` (rows) or ``encoder`` (rows × tokens × width).
        inputs: Those it declares; unknown ones are declared and added with no effect.
        integers: Their type.
        outputs: The names it returns, in this order; by default the one of its kind.
        dynamic: Quantise the embeddings with one scale for the whole batch.
    """
    from onnx import TensorProto, helper, numpy_helper

    integer = getattr(TensorProto, integers)
    nodes: list[Any] = []

    def add(operator: str, *given: str, to: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(given), [to], **attributes))
        return to

    x = add("Gather", "words", "input_ids", to="word_vectors")
    if "token_type_ids" in inputs:
        x = add("Add", x, add("Gather", "types", "token_type_ids", to="type_vectors"), to="typed")
    if "position_ids" in inputs:
        x = add("Add", x, add("Gather", "positions", "position_ids", to="position_vectors"), to="placed")
    if dynamic:
        nodes.append(helper.make_node("DynamicQuantizeLinear", [x], ["x8", "x_scale", "x_zero"]))
        x = add("DequantizeLinear", "x8", "x_scale", "x_zero", to="x_rounded")
    nodes.append(helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT))
    add("Unsqueeze", add("Mul", add("Sub", "mask", "one", to="m1"), "large", to="m2"), "axis1", to="closed")
    add("Mul", add("MatMul", x, add("Transpose", x, to="x_t", perm=[0, 2, 1]), to="s0"), "quarter", to="s1")
    attention = add("Softmax", add("Add", "s1", "closed", to="s2"), to="attention", axis=-1)
    mixed = add("MatMul", add("MatMul", attention, x, to="mixed"), "dense", to="dense_out")
    add("Tanh", add("Add", mixed, x, to="residual"), to="last_hidden_state")
    add("Unsqueeze", "mask", "axis2", to="mask3")  # (rows, tokens, 1)
    add("ReduceSum", add("Mul", "last_hidden_state", "mask3", to="kept"), "axis1", to="summed", keepdims=0)
    add("ReduceSum", "mask", "axis1", to="count", keepdims=1)
    pooled = add("Div", "summed", "count", to="pooler_output")
    add("Add", add("MatMul", pooled, "head", to="h0"), "bias", to="logits")
    add("Squeeze", "logits", "axis1", to="flat")

    labels = weights["bias"].shape[0]
    shapes: dict[str, list[Any]] = {
        "last_hidden_state": ["rows", "tokens", WIDTH],
        "pooler_output": ["rows", WIDTH],
        "logits": ["rows", labels],
        "flat": ["rows"],
    }
    constants = {
        "one": np.float32(1),
        "large": np.float32(1e9),
        "quarter": np.float32(0.25),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
    }
    default = {"classifier": "logits", "flat": "flat", "encoder": "last_hidden_state"}[kind]
    kept = _needed(nodes, outputs or [default])
    used = {name for node in kept for name in node.input}
    initializers = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in {**weights, **constants}.items()
        if name in used
    ]
    graph = helper.make_graph(
        kept,
        "toy",
        [helper.make_tensor_value_info(name, integer, ["rows", "tokens"]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs or [default]],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8  # that of the oldest onnxruntime we run on
    onnx.checker.check_model(model)
    return model


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The nodes that the outputs depend on, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def make_weights(vocabulary: int, labels: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "words": (vocabulary, WIDTH),
        "types": (2, WIDTH),
        "positions": (POSITIONS, WIDTH),
        "dense": (WIDTH, WIDTH),
        "head": (WIDTH, labels),
        "bias": (labels,),
    }
    return {name: rng.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def tokenizers() -> Mapping[str, Tokenizer]:
    return {kind: make_tokenizer(kind) for kind in ("bert", "roberta", "t5")}


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory, tokenizers: Mapping[str, Tokenizer]) -> Callable[..., Toy]:
    """Makes a checkpoint: ``toy(labels=2, tokenizer="roberta", config={…}, folder=…, file="onnx/model.onnx", …)``."""

    def make(
        *,
        tokenizer: str = "bert",
        labels: int = 1,
        config: Mapping[str, Any] | None = None,
        folder: Path | None = None,
        file: str = "model.onnx",
        inputs: Sequence[str] = BERT_INPUTS,
        seed: int = 0,
        external: str | None = None,
        **graph: Any,
    ) -> Toy:
        folder = folder or tmp_path_factory.mktemp("toy")
        weights = make_weights(tokenizers[tokenizer].get_vocab_size(), labels, seed)
        model = build_graph(weights, inputs=inputs, **graph)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        if external:
            onnx.save(model, folder / file, save_as_external_data=True, location=external, size_threshold=64)
        else:
            onnx.save(model, folder / file)
        tokenizers[tokenizer].save(str(folder / "tokenizer.json"))
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": POSITIONS, **(config or {})}))
        return Toy(folder, tokenizers[tokenizer], weights, tuple(inputs))

    return make


@pytest.fixture(scope="session")
def cross_encoder(toy: Callable[..., Toy]) -> Toy:
    return toy()


@pytest.fixture(scope="session")
def encoder(toy: Callable[..., Toy]) -> Toy:
    return toy(kind="encoder", config={"late_interaction": {"query_tokens": 12, "document_tokens": 24}})
