"""One model on one device: rows of token ids in, one number a row out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import torch

from rerank import ModelLoadError, ModelRef, PairLayout, map_batches
from rerank_crossencoder.first_token import shorten_last_layer
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_torch.device import OUT_OF_MEMORY, memory_errors_told
from rerank_torch.loading import load_model

CPU_BATCH_TOKENS: Final = 768
"""Tokens a batch on a CPU, padding included: few enough for a batch's activations to stay in its caches.

Seconds for 100 documents on two cores (`benchmarks/crossencoder.py`, best of 5) at 512, 768, 1,024, 1,536, 2,048 and 3,072
tokens: 1.75, 1.70, 1.81, 1.94, 1.94, 2.05.
"""

BATCH_TOKENS: Final = 32_768
"""Tokens a batch elsewhere: some hundred rows, enough to keep an accelerator busy; estimated, not measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """A query with a document, or with a window of it.

    Args:
        ids: Token ids, specials included.
        query_len: How many of them are the query's own.
    """

    ids: tuple[int, ...]
    query_len: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Rows with how to batch them: what a process of a `DevicePool` is sent."""

    rows: Sequence[Row]
    max_tokens: int
    max_items: int | None
    progress: bool = False


class Encoder:
    """A sequence-classification model on one device.

    Args:
        model: Where the checkpoint is.
        options: How to load it.
        device: A torch device's name.
        layout: Where the model expects query and document.
        pad_id: What fills short rows.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded, or its head has more than two outputs.
    """

    def __init__(
        self, model: ModelRef, options: CrossEncoderOptions, device: str, layout: PairLayout, pad_id: int
    ) -> None:
        self.network = load_model("AutoModelForSequenceClassification", model, options, device)
        if (outputs := self.network.config.num_labels) > 2:
            raise ModelLoadError(
                f"{model.name} has {outputs} outputs and sorts texts into classes: give a reranker, with 1 or 2 outputs"
            )
        if getattr(self.network.config, "pad_token_id", None) is None:
            self.network.config.pad_token_id = pad_id
        shorten_last_layer(self.network)
        self.device = torch.device(device)
        self.layout, self.pad_id = layout, pad_id
        self.takes_types = self._takes_types()

    def _takes_types(self) -> bool:
        """Whether segment ids must be given: not where all are 0, which is what a model takes them for."""
        kinds = getattr(self.network.config, "type_vocab_size", 2) or 0
        return (
            any(self.layout.types)
            and kinds > max(self.layout.types)
            and "token_type_ids" in inspect.signature(self.network.forward).parameters
        )

    def __call__(self, work: Work) -> list[float]:
        """One value a row, in order: the logit, or of two the log-odds.

        Raises:
            OutOfMemoryError: One row alone does not fit.
        """
        lengths = [len(row.ids) for row in work.rows]
        values = map_batches(
            work.rows,
            lengths,
            self._forward,
            max_tokens=work.max_tokens,
            max_items=work.max_items,
            out_of_memory=OUT_OF_MEMORY,
            progress=work.progress,
        )
        return torch.stack(values).tolist() if values else []  # waits for the device once, at the end

    @torch.inference_mode()
    def _forward(self, rows: list[Row]) -> Sequence[torch.Tensor]:
        lengths = np.array([len(row.ids) for row in rows])  # (rows,)
        places = np.arange(lengths.max())  # (tokens,)
        real = places < lengths[:, None]  # (rows, tokens)
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)  # (rows, tokens)
        ids[real] = np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64, lengths.sum())
        inputs = {"input_ids": self._on_device(ids)}
        if not real.all():  # a mask of ones would only keep attention off its fast path
            inputs["attention_mask"] = self._on_device(real.astype(np.int64))
        if self.takes_types:
            before = len(self.layout.before) + len(self.layout.between)
            first = places < np.array([before + row.query_len for row in rows])[:, None]  # (rows, tokens)
            inputs["token_type_ids"] = self._on_device(np.where(first, *self.layout.types))
        with memory_errors_told():
            logits = self.network(**inputs, return_dict=True).logits.float()  # (rows, 1 or 2)
        return relevance(logits).unbind()

    def _on_device(self, array: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def relevance(logits: torch.Tensor) -> torch.Tensor:
    """(rows, 1) → (rows,) the logit; (rows, 2) → (rows,) the log-odds, whose sigmoid is the softmax of the second."""
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def start_encoder(
    device: str, *, model: ModelRef, options: CrossEncoderOptions, layout: PairLayout, pad_id: int, threads: int
) -> Encoder:
    """An `Encoder` in a process of its own, with its share of the CPU's threads."""
    torch.set_num_threads(threads)
    return Encoder(model, options, device, layout, pad_id)
