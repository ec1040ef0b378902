"""The backend ``cross-encoder``: which models it runs, its options, and how one is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from rerank import Alias, Backend, Claim, Confidence, ModelRef, Scorer, hookimpl, saved_prompt
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_torch import find_accelerators
from rerank_torch.modules import Module, read_head

_HEAD: Final = "ForSequenceClassification"
_WEIGHTS: Final = frozenset(  # what `rerank_torch.loading` reads, which imports torch
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
)
_DECODERS: Final = (
    "Llama",
    "Qwen",
    "Gemma",
    "Mistral",
    "Mixtral",
    "Phi",
    "GPT",
    "OPT",
    "Falcon",
    "MiniCPM",
    "JambaFor",
)

_LANGUAGES: Final = {  # AnswerDotAI rerankers 0.10.0
    "en": Alias("mixedbread-ai/mxbai-rerank-base-v1"),
    "fr": Alias("antoinelouis/crossencoder-camembert-base-mmarcoFR"),
    "zh": Alias("BAAI/bge-reranker-base", {"max_length": 512}),
    "other": Alias("corrius/cross-encoder-mmarco-mMiniLMv2-L12-H384-v1"),
}
_BGE: Final = {  # FlagEmbedding 1.4.2: 512 tokens; 1,024 in the published tables of v2
    "bge-reranker-base": dict.fromkeys(("en", "zh"), Alias("BAAI/bge-reranker-base", {"max_length": 512})),
    "bge-reranker-large": dict.fromkeys(("en", "zh"), Alias("BAAI/bge-reranker-large", {"max_length": 512})),
    "bge-reranker-v2-m3": {"other": Alias("BAAI/bge-reranker-v2-m3", {"max_length": 1024})},
}


def claim(model: ModelRef) -> Claim:
    """Claim checkpoints with torch weights and a sequence-classification head of one or two outputs."""
    if any(model.name == alias.model for models in (_LANGUAGES, *_BGE.values()) for alias in models.values()):
        return Claim(Confidence.CERTAIN, "one of this backend's own models")
    architectures = [str(name) for name in model.config.get("architectures") or ()]
    head = next((name for name in architectures if name.endswith(_HEAD)), None)
    if head is None and (modules := read_head(model)):
        return _claim_modules(model, modules)
    if head is None:
        found = f"architectures {', '.join(architectures)}" if architectures else "no architectures in a config.json"
        return Claim(Confidence.NONE, f"{found}, and a cross-encoder is a …{_HEAD}")
    if not any(file.endswith((".safetensors", ".bin")) and "/" not in file for file in model.files):
        return Claim(Confidence.NONE, f"{head}, but no torch weights (.safetensors or .bin) in the checkpoint")
    outputs = count_outputs(model.config)
    if outputs > 2:
        return Claim(Confidence.NONE, f"{head} with {outputs} outputs sorts texts into classes; a reranker has 1 or 2")
    found = f"{head} with {outputs} output{'s' * (outputs - 1)}, and torch weights"
    if head.startswith(_DECODERS):
        return Claim(Confidence.POSSIBLE, f"{found}; a decoder's recipe is in its prompt, and this backend gives none")
    if _WEIGHTS.isdisjoint(model.files):  # such as training_args.bin, beside the ONNX graph of another backend
        return Claim(Confidence.LIKELY, f"{found} under a name that transformers does not read")
    return Claim(Confidence.CERTAIN, found)


def _claim_modules(model: ModelRef, modules: Sequence[Module]) -> Claim:
    """Claim what ends in a Dense module of one or two outputs, as Ettin's rerankers do."""
    kinds = [module.kind for module in modules]
    outputs = modules[-1].config.get("out_features")
    found = f"the modules {' → '.join(kinds)}"
    built = kinds[:2] == ["Transformer", "Pooling"] and {*kinds[2:]} <= {"Dense", "LayerNorm"}
    if not built or kinds[-1] != "Dense" or outputs not in (1, 2):
        return Claim(Confidence.NONE, f"{found}, and a cross-encoder's end in a Dense of 1 or 2 outputs")
    if _WEIGHTS.isdisjoint(model.files):
        return Claim(Confidence.NONE, f"{found}, but no torch weights (.safetensors or .bin) in the checkpoint")
    return Claim(Confidence.CERTAIN, f"{found} with {outputs} output{'s' * (outputs - 1)}, and torch weights")


def count_outputs(config: Any) -> int:
    """How many numbers a head returns, from a raw ``config.json``; 2 if it says nothing, as in transformers."""
    if labels := config.get("id2label"):
        return len(labels)
    return int(config.get("num_labels") or 2)


def load(model: ModelRef, options: CrossEncoderOptions) -> Scorer:
    """Load a checkpoint's tokenizer and model; with several devices the models load in their processes, on first use.

    Raises:
        ModelLoadError: The checkpoint cannot be found, read or trusted, or its tokenizer has no fixed pair layout.
        InvalidOptionsError: A device is not available, or ``max_length`` is beyond the model's positions.
    """
    model.check_files()
    from rerank_crossencoder.scorer import CrossEncoder

    return CrossEncoder(model, options)


def describe(model: ModelRef, options: CrossEncoderOptions) -> Iterator[str]:
    """What a query is joined with, if anything."""
    if (instruction := options.query_instruction_for_rerank) is not None:
        yield f"query: {options.query_instruction_format.format(instruction, '{query}')!r}"
    elif prompt := saved_prompt(model):
        yield f"query: {prompt + '{query}'!r} (the checkpoint's own prompt)"
    if (instruction := options.passage_instruction_for_rerank) is not None:
        yield f"document: {options.passage_instruction_format.format(instruction, '{document}')!r}"


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the backend ``cross-encoder``."""
    yield Backend(
        name="cross-encoder",
        summary="sequence-classification cross-encoders (BERT, XLM-R, BGE, DeBERTa, ModernBERT …) on torch",
        load=load,
        claim=claim,
        options=CrossEncoderOptions,
        aliases={"cross-encoder": _LANGUAGES, **_BGE},
        devices=find_accelerators,
        describe=describe,
    )
