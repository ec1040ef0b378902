"""The backends' options; imports no heavy library."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rerank import Reload, is_data, read_data
from rerank_llm.recipe import Recipe
from rerank_torch import TorchOptions


class LoadingOptions(TorchOptions):
    """Options of every language model on torch: what `rerank_llm.forwards.loading` reads.

    Args:
        quantization: ``4bit`` or ``8bit`` loads the weights like that; needs ``bitsandbytes``.
    """

    quantization: Reload[Literal["4bit", "8bit"] | None] = None


def choose_loading(options: Any) -> LoadingOptions:
    """What loads a model, out of the options of a backend and a generator together, whose class cannot be pickled."""
    return LoadingOptions(**{name: getattr(options, name) for name in LoadingOptions.model_fields})


class LlmOptions(LoadingOptions):
    """Options of every backend of this distribution, besides those of every torch backend.

    ``max_length`` counts what the recipe says and is by default the recipe's; ``query_max_length`` is the recipe's, or three
    quarters of ``max_length``. A longer query is cut with a warning; otherwise only the document is cut.

    Args:
        recipe: How to prompt the model: a recipe's name, a JSON file, or a `Recipe` or mapping. None takes what
            the checkpoint carries, else what its name is known for, else the backend's own default.
        instruction: What to look for, in place of the recipe's own instruction.
        token_true: The text of the token that says relevant, in place of the recipe's.
        token_false: The text of the token that says not relevant, in place of the recipe's.
        inputs_template: A prompt with ``{query}`` and ``{text}`` in place of the recipe's (AnswerDotAI rerankers).
    """

    recipe: Reload[Recipe | str | None] = None
    instruction: str | None = None
    token_true: Reload[str | None] = None
    token_false: Reload[str | None] = None
    inputs_template: Reload[str | None] = None

    @field_validator("token_true", "token_false", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if not (value is None or isinstance(value, str)):
            quoted = json.dumps(json.dumps(value) if isinstance(value, (bool, int, float)) else str(value))
            raise ValueError(f"{value!r} is no text: quote the token ({quoted}), or give its id in a recipe")
        return value

    @field_validator("recipe", mode="before")
    @classmethod
    def _read_recipe(cls, value: Any) -> Any:
        return read_data(Recipe, value, "the recipe") if is_data(value) else value


class CausalOptions(LlmOptions):
    """Options of the backend ``llm-pointwise``.

    Args:
        prefix_reuse: Whether the part of the prompt that all documents of a query share is computed once. None decides
            by measure: where that part is long enough to pay. Scores stay equal within 1e-4 (fp32). True is an error for
            models that cannot share it.
        max_new_tokens: How many tokens a chain of thought may have, for models that reason first (Rank1); None is 2,048.
    """

    prefix_reuse: bool | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)


class LayerwiseOptions(LlmOptions):
    """Options of the backend ``llm-layerwise``.

    Args:
        cutoff_layers: Score with the heads after these layers, and compute no deeper than the last. With several,
            documents are ordered by the deepest, and ``details["layers"]`` has every score. None is the last layer.
    """

    cutoff_layers: tuple[int, ...] | None = Field(default=None, min_length=1)

    @field_validator("cutoff_layers", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value


class LightweightOptions(LayerwiseOptions):
    """Options of the backend ``llm-lightweight``.

    Args:
        compress_layers: Compress the passage's token vectors before these layers, with ``compress_ratio``; None is
            layer 8. Before layer 0 nothing is compressed.
        compress_ratio: How many neighbouring vectors become their mean; None or 1 compresses nothing.
        head_index: Which head belongs to a cutoff: ``position`` counts among the chosen cutoffs, as FlagEmbedding does;
            ``layer`` counts among the layers that have one.
    """

    compress_layers: tuple[int, ...] | None = None
    compress_ratio: int | None = Field(default=None, ge=1)
    head_index: Reload[Literal["position", "layer"]] = "position"

    @field_validator("compress_layers", mode="before")
    @classmethod
    def _one_layer_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _compress_somehow(self) -> LightweightOptions:
        if self.compress_layers is not None and self.compress_ratio is None:
            raise ValueError("compress_layers has no effect without compress_ratio: give both")
        return self
