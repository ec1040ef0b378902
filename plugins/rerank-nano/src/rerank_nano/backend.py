"""The backend ``nano``: one model, always available, run by ``rerank-onnx``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from rerank import Alias, Backend, Claim, Confidence, ModelRef, Scorer, hookimpl
from rerank_onnx.options import OnnxOptions

NAME: Final = "nano"
FOLDER: Final = Path(__file__).parent / "model"
"""The checkpoint: graph, tokenizer and configuration."""


def claim(model: ModelRef) -> Claim:
    """Claim the one name."""
    if model.name == NAME:
        return Claim(Confidence.CERTAIN, "the embedded default model")
    return Claim(Confidence.NONE, f"runs only the embedded model, {NAME!r}")


def load(model: ModelRef, options: OnnxOptions) -> Scorer:
    """Load the embedded model; nothing is downloaded."""
    from rerank_onnx.backend import load

    return load(replace(model, name=str(FOLDER)), options)


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the backend ``nano``."""
    yield Backend(
        name=NAME,
        summary="the embedded default model: English, 23 MB, offline, without torch",
        load=load,
        claim=claim,
        options=OnnxOptions,
        aliases={NAME: {"en": Alias(NAME)}},
    )
