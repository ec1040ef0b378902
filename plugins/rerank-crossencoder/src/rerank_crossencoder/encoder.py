"""A cross-encoder on one device: takes a padded batch and returns one number per row."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import torch

from rerank import ModelLoadError, ModelRef, relevant_output
from rerank_crossencoder.first_token import shorten_last_layer
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_torch.heads import load_modules
from rerank_torch.loading import load_model
from rerank_torch.modules import read_head
from rerank_torch.rows import Batch

_NO_TOKEN: Final = -1
"""The padding of a model that has none, so that a document's own tokens never count as padding."""


class Encoder:
    """A sequence-classification model on one device.

    Its head is one of transformers' own, or is in module folders of sentence-transformers (as for Ettin).

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        types: Segment ids of the query's part of a row and of the document's.
        pad_id: The id that fills short rows.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded, its head has more than two outputs, or two whose names do not say
            which means relevant.
    """

    def __init__(
        self, device: str, *, model: ModelRef, options: CrossEncoderOptions, types: tuple[int, int], pad_id: int
    ) -> None:
        self.network = _load(device, model, options)
        if (outputs := self.network.config.num_labels) > 2:
            raise ModelLoadError(
                f"{model.name} has {outputs} outputs and sorts texts into classes: give a reranker, with 1 or 2 outputs"
            )
        self._relevant = relevant_output(model.config, model.name) if outputs == 2 else 0
        if getattr(self.network.config, "pad_token_id", None) is None:
            reads_last = hasattr(self.network, "score")  # decoders' head, which looks for the last token before padding
            self.network.config.pad_token_id = _NO_TOKEN if reads_last else pad_id
        self._types = types if _reads_types(self.network, types) else None

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One value per row: the logit, or of two the log-odds."""
        inputs = {"input_ids": batch.ids}
        if batch.mask is not None:
            inputs["attention_mask"] = batch.mask
        if self._types is not None:
            inputs["token_type_ids"] = torch.where(batch.in_first, *self._types)  # (rows, tokens)
        logits = self.network(**inputs, return_dict=True).logits  # (rows, 1 or 2)
        return relevance(logits.float(), self._relevant).unbind()


def _load(device: str, model: ModelRef, options: CrossEncoderOptions) -> Any:
    if modules := read_head(model):
        return load_modules(model, modules, options, device)
    network = load_model("AutoModelForSequenceClassification", model, options, device)
    shorten_last_layer(network)
    return network


def _reads_types(network: Any, types: tuple[int, int]) -> bool:
    """Whether segment ids must be given: a model assumes 0, so they need not be if all are 0.

    Without ``type_vocab_size`` a model has no embeddings for them (GPT-2 would look them up among its words).
    """
    kinds = getattr(network.config, "type_vocab_size", 0) or 0
    parameters = inspect.signature(network.base_model.forward).parameters
    return any(types) and kinds > max(types) and "token_type_ids" in parameters


def relevance(logits: torch.Tensor, relevant: int) -> torch.Tensor:
    """(rows, 1) → (rows,) the logit; (rows, 2) → (rows,) the log-odds of the output ``relevant``."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, relevant] - logits[:, 1 - relevant]
