"""A late-interaction encoder on one device: takes a padded batch and returns one vector per token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize

from rerank import InvalidOptionsError, ModelLoadError, ModelRef
from rerank_colbert.options import ColbertOptions
from rerank_colbert.recipe import Recipe
from rerank_torch.heads import build_module
from rerank_torch.loading import load_model, load_tensor
from rerank_torch.rows import Batch


class TokenEncoder:
    """A network of transformers without a head, and the projections of its token vectors.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        recipe: The checkpoint's recipe.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded.
    """

    def __init__(self, device: str, *, model: ModelRef, options: ColbertOptions, recipe: Recipe) -> None:
        base = load_model("AutoModel", model, options, device, unread=("pooler.",))
        head = _load_projections(model, recipe, base.config.hidden_size).to(device, base.dtype)
        self.network = nn.ModuleDict({"base": base, "head": head}).eval()
        self._normalizes = recipe.normalize
        self._attention = str(getattr(base.config, "_attn_implementation", None))

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """Per row ``(tokens, dimensions)`` in float32, padding left out.

        Raises:
            InvalidOptionsError: Flash attention drops the tokens that augment queries.
        """
        if "flash" in self._attention and batch.mask is not None and int(batch.mask.sum()) < sum(batch.lengths):
            raise InvalidOptionsError(
                f"attn_implementation={self._attention!r} drops tokens that are not attended to, with which this model "
                "augments queries: pass attn_implementation='sdpa'"
            )
        inputs: dict[str, Any] = {"input_ids": batch.ids}
        if batch.mask is not None:
            inputs["attention_mask"] = batch.mask
        hidden = self.network["base"](**inputs).last_hidden_state  # (rows, tokens, width)
        vectors = self.network["head"](hidden).float()  # (rows, tokens, dimensions)
        if self._normalizes:
            vectors = normalize(vectors, dim=-1)
        vectors = vectors.cpu()  # in one transfer, since rows of many lengths follow
        return [row[:length] for row, length in zip(vectors, batch.lengths)]


def _load_projections(model: ModelRef, recipe: Recipe, width: int) -> nn.Module:
    if recipe.layout == "stanford":
        weight = _projection(model, width)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight, requires_grad=False)
        return linear
    return nn.Sequential(*(build_module(model, module, reads="token_embeddings") for module in recipe.projections))


def _projection(model: ModelRef, width: int) -> torch.Tensor:
    """Stanford's projection: ``(dimensions, width)``.

    Raises:
        ModelLoadError: It is missing, or has another shape.
    """
    weight = load_tensor(model, "linear.weight")
    if weight.ndim != 2 or weight.shape[1] != width or not len(weight) or not weight.is_floating_point():
        raise ModelLoadError(
            f"linear.weight of {model.name} is {weight.dtype} of shape {tuple(weight.shape)}, and must be floats of shape "
            f"(dimensions, {width}): fetch the checkpoint again"
        )
    return weight


def count_dimensions(model: ModelRef, recipe: Recipe, width: int) -> int:
    """How many numbers a vector has.

    Args:
        model: Where the checkpoint is.
        recipe: The checkpoint's recipe.
        width: Of the encoder's own vectors.

    Raises:
        ModelLoadError: The projection cannot be read.
    """
    if recipe.layout == "stanford":
        return len(_projection(model, width))
    widths = [module.config["out_features"] for module in recipe.projections if module.kind == "Dense"]
    return int(widths[-1] if widths else width)
