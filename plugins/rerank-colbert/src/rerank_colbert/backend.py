"""The backend ``colbert``: which models it runs, its options, and how one is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from rerank import Alias, Backend, Claim, Confidence, ModelRef, Scorer, hookimpl
from rerank_colbert.options import ColbertOptions
from rerank_colbert.recipe import choose_recipe, describe_recipe, read_recipe
from rerank_torch import find_accelerators
from rerank_vectors import default_folder

_LANGUAGES: Final = {  # AnswerDotAI rerankers 0.10.0
    "en": Alias("colbert-ir/colbertv2.0"),
    "fr": Alias("bclavie/FraColBERTv2"),
    "ja": Alias("bclavie/JaColBERTv2"),
    "es": Alias("AdrienB134/ColBERTv2.0-spanish-mmarcoES"),
}
_MODERN: Final = Alias("lightonai/GTE-ModernColBERT-v1")
_OWN: Final = frozenset(alias.model for alias in (*_LANGUAGES.values(), _MODERN)) | {
    "answerdotai/answerai-colbert-small-v1",
    "lightonai/LateOn",
}
_ENCODERS: Final = ("Model", "ForMaskedLM")
_NOT_ENCODERS: Final = ("LMHeadModel", "DoubleHeadsModel", "EncoderModel")
"""Ends of names of decoders, and of halves of models that ``AutoModel`` would load whole."""
_WEIGHTS: Final = (".safetensors", ".bin")


def claim(model: ModelRef) -> Claim:
    """Claim checkpoints in Stanford's, PyLate's and sentence-transformers' layouts; any encoder only if asked for."""
    if model.name in _OWN:
        return Claim(Confidence.CERTAIN, "one of this backend's own models")
    if not any(file.endswith(_WEIGHTS) and "/" not in file for file in model.files):
        return Claim(Confidence.NONE, "no torch weights (.safetensors or .bin) in the checkpoint")
    if recipe := read_recipe(model):
        return Claim(Confidence.CERTAIN, f"a late-interaction checkpoint in the layout {recipe.layout!r}")
    architectures = [str(name) for name in model.config.get("architectures") or ()]
    if any(name.endswith(_ENCODERS) and not name.endswith(_NOT_ENCODERS) for name in architectures):
        return Claim(
            Confidence.POSSIBLE, f"{architectures[0]} is an encoder that could rank by late interaction, untrained"
        )
    found = f"architectures {', '.join(architectures)}" if architectures else "no architectures in a config.json"
    return Claim(Confidence.NONE, f"{found}, and no late-interaction checkpoint")


def load(model: ModelRef, options: ColbertOptions) -> Scorer:
    """Load a checkpoint's tokenizer and model; with several devices the models load in their processes, on first use.

    Raises:
        ModelLoadError: The checkpoint cannot be found, read or trusted, or its layout is not supported.
        InvalidOptionsError: A device is not available, a length is beyond the model's positions, or the folder for document
            vectors cannot be used.
    """
    model.check_files()
    from rerank_colbert.scorer import LateInteraction

    return LateInteraction(model, options)


def describe(model: ModelRef, options: ColbertOptions) -> Iterator[str]:
    """The checkpoint's recipe, for ``rerank explain``."""
    yield from describe_recipe(choose_recipe(model))


def caches() -> Mapping[str, Path]:
    """Where document vectors are kept with ``vectors="disk"``."""
    return {"document vectors": default_folder()}


@hookimpl
def rerank_register_commands(cli: click.Group) -> None:
    """Add ``rerank matches``."""
    from rerank_colbert.command import command

    cli.add_command(command)


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the backend ``colbert``."""
    yield Backend(
        name="colbert",
        summary="late interaction (ColBERT, ModernColBERT, any encoder) on torch; can keep document vectors",
        load=load,
        claim=claim,
        options=ColbertOptions,
        aliases={"colbert": _LANGUAGES, "pylate": {"en": _MODERN}},
        devices=find_accelerators,
        caches=caches,
        describe=describe,
    )
