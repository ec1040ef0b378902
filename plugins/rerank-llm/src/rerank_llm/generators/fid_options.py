"""The options of the encoder-decoder generators, and which models they know by name; imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from rerank import Claim, Confidence, FastTokens, InvalidOptionsError, ModelRef
from rerank_llm.options import LoadingOptions
from rerank_llm.recipe import Recipe, fill

UNLIMITED: Final = 1_000_000
"""A limit within which every text is encoded whole."""

_PROMPTING: Final = ("recipe", "examples", "temperature", "answers")
"""Options for models that are prompted freely and sample."""


class EncoderDecoderOptions(LoadingOptions):
    """Options of the generators ``lit5-distill``, ``lit5-score``, ``listt5`` and ``duot5``.

    ``max_length`` counts one passage with all that stands around it, or the two of duoT5; None is what the model was
    published with.
    """


def refuse_prompting(options: Any, name: str, *more: str) -> None:
    """Check that no option is set that a model with a prompt of its own cannot follow.

    Args:
        options: The options of the call.
        name: What the model is, for the error.
        more: Further options that it cannot follow.

    Raises:
        InvalidOptionsError: One is set.
    """
    if unused := next((option for option in (*_PROMPTING, *more) if getattr(options, option, None)), None):
        raise InvalidOptionsError(f"{name} has one fixed way to be asked and to answer: leave {unused} out")


def cut_text(tokens: FastTokens, text: str, longest: int | None) -> str:
    """The beginning of a text that has at most so many tokens; all of it if that is None."""
    return text if longest is None else tokens.cut(text, longest)


def claim_named(model: ModelRef, options: Any, *, recipe: Recipe) -> Claim:
    """Claim the models that a recipe names, and no others."""
    if model.is_one_of(recipe.models):
        return Claim(Confidence.CERTAIN, f"its name is that of a {recipe.name} model")
    return Claim(Confidence.NONE, f"its name is not that of a {recipe.name} model")


def describe_named(model: ModelRef, options: Any, *, recipe: Recipe, algorithm: str) -> Iterator[str]:
    """The recipe, and how the encoder reads a sample passage."""
    yield f"algorithm: {options.algorithm or algorithm}"
    yield f"recipe: {recipe.name}, from {recipe.source}"
    yield "a sample passage, in the pieces that are tokenised one by one:"
    texts = {"query": "what is a panda?", "document": "The giant panda is a bear of China."}
    for piece in recipe.pieces:
        yield f"  {json.dumps(fill(piece, texts), ensure_ascii=False)}"
