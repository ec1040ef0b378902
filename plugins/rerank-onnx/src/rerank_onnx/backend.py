"""The backend ``onnx``: which models it runs, its options, and how one is loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rerank import Alias, Backend, Claim, Confidence, ModelRef, Scorer, hookimpl, saved_prompt
from rerank_onnx.options import FLASHRANK, OnnxOptions
from rerank_vectors import default_folder

logger = logging.getLogger(__name__)

_TORCH_WEIGHTS = re.compile(r"(.*/)?(pytorch_model|model)[^/]*\.(safetensors|bin)")

_NODES = 8 << 20
"""Bytes of a graph's file that are searched for an operator: its nodes come before its weights."""


def claim(model: ModelRef) -> Claim:
    """Claim FlashRank's names, and checkpoints with a graph; with torch weights beside it, other backends may win."""
    if model.name in FLASHRANK:
        return Claim(Confidence.CERTAIN, "one of FlashRank's models")
    graphs = sorted(file for file in model.files if file.lower().endswith(".onnx"))
    if not graphs:
        from rerank_onnx.checkpoint import find_deeper_graph

        deeper = find_deeper_graph(model)
        return Claim(Confidence.NONE, f"no .onnx file in the checkpoint{f'; {deeper}' if deeper else ''}")
    if not any(file.endswith("tokenizer.json") for file in model.files):
        return Claim(Confidence.NONE, f"{graphs[0]} has no tokenizer.json beside it")
    found = f"{', '.join(graphs)}{_batch_dependence(model, graphs)}"
    architectures = [str(name) for name in _listed(model.config.get("architectures"))]
    if architectures and not _is_reranker(model, architectures):
        return Claim(
            Confidence.POSSIBLE, f"{found}; {architectures[0]} is an encoder that could rank by late interaction"
        )
    if any(_TORCH_WEIGHTS.fullmatch(file) for file in model.files):
        return Claim(Confidence.LIKELY, f"{found}, with torch weights beside")
    return Claim(Confidence.CERTAIN, f"{found}, and no torch weights")


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _is_reranker(model: ModelRef, architectures: Sequence[str]) -> bool:
    return "late_interaction" in model.config or any(
        name.endswith("ForSequenceClassification") for name in architectures
    )


def _batch_dependence(model: ModelRef, graphs: Sequence[str]) -> str:
    """A warning about local graphs with dynamic quantisation: one activation scale for a whole batch."""
    if not model.is_local:
        return ""
    dynamic = [graph for graph in graphs if _mentions(model.fetch(graph), b"DynamicQuantizeLinear")]
    if not dynamic:
        return ""
    return f" (dynamic int8 in {', '.join(dynamic)}: scores depend on the batch; batch_size=1 keeps them the same)"


def _mentions(file: Path, operator: bytes) -> bool:
    with file.open("rb") as stream:
        return operator in stream.read(_NODES)


def load(model: ModelRef, options: OnnxOptions) -> Scorer:
    """Load a graph and its tokenizer; a damaged download is fetched again.

    Raises:
        ModelLoadError: Files are missing or damaged, or the graph is not a reranker.
        InvalidOptionsError: ``file_name``, ``providers`` or ``session_options`` name something that does not exist, or
            ``vectors`` cannot be kept.
    """
    from rerank_onnx.checkpoint import DamagedCheckpointError, find_checkpoint
    from rerank_onnx.scorer import build_scorer

    try:
        return build_scorer(find_checkpoint(model, options), options)
    except DamagedCheckpointError as error:
        if model.is_local or model.local_files_only:
            raise
        logger.warning("%s; fetching what is damaged again", error)
        return build_scorer(find_checkpoint(model, options, repair=True), options)


def describe(model: ModelRef, options: OnnxOptions) -> Iterator[str]:
    """The prompts that a checkpoint puts before queries and documents, if any."""
    if model.name in FLASHRANK:
        return
    architectures = [str(name) for name in _listed(model.config.get("architectures"))]
    if "late_interaction" in model.config or (architectures and not _is_reranker(model, architectures)):
        prompts = {"query": saved_prompt(model, "query"), "document": saved_prompt(model, "document")}
    else:
        prompts = {"query": saved_prompt(model)}
    for role, prompt in prompts.items():
        if prompt:
            yield f"{role}: {prompt + f'{{{role}}}'!r} (the checkpoint's own prompt)"


def devices() -> Mapping[str, str]:
    """The execution providers of this machine's onnxruntime."""
    from rerank_onnx.runtime import onnxruntime

    return {"onnxruntime": ", ".join(onnxruntime.get_available_providers())}


def caches() -> Mapping[str, Path]:
    """Where FlashRank's archives are unpacked without ``cache_dir``, and where ``vectors="disk"`` keeps vectors."""
    from rerank_onnx.checkpoint import default_cache

    return {"unpacked archives": default_cache(), "document vectors": default_folder()}


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the backend ``onnx``."""
    tiny, multilingual = Alias("ms-marco-TinyBERT-L-2-v2"), Alias("ms-marco-MultiBERT-L-12")
    names = {name: {"other": Alias(name)} for name in FLASHRANK}  # no other backend need be asked, nor the hub
    languages = {"en": tiny, "ar": Alias("miniReranker_arabic_v1"), "other": multilingual}
    yield Backend(
        name="onnx",
        summary="cross-encoders and late interaction as ONNX graphs, without torch",
        load=load,
        claim=claim,
        options=OnnxOptions,
        aliases={"onnx": languages, "flashrank": languages, **names},
        devices=devices,
        caches=caches,
        describe=describe,
    )
