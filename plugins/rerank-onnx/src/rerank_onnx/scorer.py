"""Which kind of scorer a graph is: by what it returns."""

from __future__ import annotations

from typing import Final

from rerank import (
    InvalidOptionsError,
    ModelLoadError,
    PairLayout,
    Scorer,
    TokenLimits,
    Tokens,
    find_pad_id,
    first_position,
    knows_positions,
    probe_limits,
    probe_rows,
)
from rerank_onnx.checkpoint import Checkpoint
from rerank_onnx.cross_encoder import OnnxCrossEncoder
from rerank_onnx.graph import Graph
from rerank_onnx.late_interaction import OnnxLateInteraction
from rerank_onnx.options import OnnxOptions
from rerank_onnx.tokens import load_tokens

_TRACED_AT_ONE_LENGTH: Final = ("big_bird", "led", "longformer")
"""Model types whose code cuts rows into blocks, of which an exported graph may keep the number."""


def build_scorer(checkpoint: Checkpoint, options: OnnxOptions) -> Scorer:
    """A cross-encoder for a graph that returns one or two numbers per row, late interaction for token vectors.

    Raises:
        ModelLoadError: The graph returns anything else, or a file is damaged.
        InvalidOptionsError: ``vectors`` cannot be kept there, or the graph is a cross-encoder.
    """
    tokens = load_tokens(checkpoint)
    pad_id = find_pad_id(tokens, checkpoint.config, checkpoint.tokenizer_config)
    graph = Graph(checkpoint.graph, options, pad_id, first_position(checkpoint.config, pad_id))
    limits = TokenLimits.read(checkpoint.config, checkpoint.tokenizer_config, pad_id).at_most(graph.length)
    shape = graph.output.shape  # sizes, or names for sizes that are free
    if len(shape) == 3:  # (rows, tokens, dimensions)
        _check_encoder(checkpoint, graph)
        limits = _probe(checkpoint, graph, tokens, tokens.single_layout(), limits)
        return OnnxLateInteraction(tokens, limits, graph, checkpoint, options)
    if len(shape) in (1, 2) and (len(shape) == 1 or not isinstance(shape[1], int) or shape[1] in (1, 2)):
        if options.vectors is not None:
            raise InvalidOptionsError(
                f"{checkpoint.graph} is a cross-encoder, which reads each document together with the query: only late "
                "interaction keeps document vectors; leave vectors out"
            )
        limits = _probe(checkpoint, graph, tokens, tokens.pair_layout(), limits)
        return OnnxCrossEncoder(tokens, limits, graph, checkpoint)
    raise ModelLoadError(
        f"{checkpoint.graph} returns {graph.output.name} of shape {shape}: a reranker returns one or two numbers per "
        "row, or token vectors; export the model with its classification head"
    )


def _probe(
    checkpoint: Checkpoint, graph: Graph, tokens: Tokens, layout: PairLayout, limits: TokenLimits
) -> TokenLimits:
    """Find out how long a row the graph reads, where its configuration may not say, and whether padding changes its output."""

    def runs(ids: tuple[int, ...], query_len: int) -> bool:
        return graph.reads(ids, layout.type_ids(query_len, len(ids)))

    traced_short = checkpoint.config.get("model_type") in _TRACED_AT_ONE_LENGTH
    if graph.length is None and (traced_short or not knows_positions(checkpoint.config)):
        limits = probe_limits(limits, tokens, layout, runs)
    rows = dict(probe_rows(tokens, layout, limits.default))  # token ids → how many of them are the query's
    graph.probe(list(rows), lambda ids: layout.type_ids(rows.get(ids, 0), len(ids)))
    return limits


def _check_encoder(checkpoint: Checkpoint, graph: Graph) -> None:
    """Refuse token-wise outputs that are no vectors to compare: of a classifier without its head, or of a language model.

    Raises:
        ModelLoadError: It is one of these.
    """
    names = [str(name) for name in checkpoint.config.get("architectures") or ()]
    head = next((name for name in names if name.endswith("ForSequenceClassification")), None)
    if head is not None and "late_interaction" not in checkpoint.config:
        raise ModelLoadError(
            f"{checkpoint.graph} returns only {graph.output.name}, a vector per token, and its config.json says {head}: "
            "export it for sequence classification, with its head"
        )
    per_word = graph.output.shape[-1] == checkpoint.config.get("vocab_size")
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names) or (
        per_word or graph.output.name.endswith("logits")
    ):
        raise ModelLoadError(
            f"{checkpoint.graph} returns {graph.output.name} of shape {graph.output.shape}, the logits of a language model "
            "per token: run it with a backend for language models, or give a reranker"
        )
