"""Gemma 2 with compressed passages and heads at some layers (bge-reranker-v2.5-gemma2-lightweight).

FlagEmbedding 1.4.2, ``gemma_model.py``: before some layers, neighbouring vectors of the passage become their mean; query
and task keep theirs. The Matryoshka rerankers share the code, on Mistral's blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import transformers

from rerank import ModelLoadError, ModelRef
from rerank_llm.forwards.native import load_layered
from rerank_llm.forwards.verdicts import last_real
from rerank_llm.options import LightweightOptions
from rerank_torch.rows import Batch


@dataclass(frozen=True, slots=True)
class Compression:
    """What a call asks for.

    Args:
        cutoffs: The layers after which scores are read, in ascending order.
        layers: Compress before these layers.
        ratio: How many neighbouring vectors become one.
        task_len: Token count of the task at the end of every row.
    """

    cutoffs: tuple[int, ...]
    layers: tuple[int, ...]
    ratio: int
    task_len: int


class LightweightForward:
    """The model on one device; ``Batch.shared`` is a `Compression`, and the first segment is query and line break.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LightweightOptions) -> None:
        raw = model.config
        decoder, config, scale = _blocks(model)
        self.network = load_layered(model, options, device, decoder, config, scale)
        self.start_layer = int(raw.get("start_layer", config.num_hidden_layers))
        self.layer_sep = int(raw.get("layer_sep", 1))
        self._by_layer = options.head_index == "layer"
        self._cap: float | None = raw.get("final_logit_softcapping")
        self._window: int | None = getattr(config, "sliding_window", None)
        self._kinds: Sequence[str] | None = getattr(config, "layer_types", None)

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor ``(cutoffs,)`` per row."""
        asked: Compression = batch.shared
        hidden = self.network.embed(batch.ids)  # (rows, tokens, width)
        mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask  # (rows, tokens)
        query_lens = batch.in_first.sum(dim=1)  # (rows,)
        scores: list[torch.Tensor] = []
        for number in range(asked.cutoffs[-1] + 1):
            if number in asked.cutoffs:
                value = self.network.score(last_real(hidden, mask), self._head(number, len(scores)))
                scores.append(value if self._cap is None else self._cap * torch.tanh(value / self._cap))
            if number == asked.cutoffs[-1]:
                break
            if asked.ratio > 1 and number in asked.layers and number != 0:
                hidden, mask = compress(hidden, mask, query_lens, asked.task_len, asked.ratio)
            rotary = self.network.rotate(hidden)
            hidden = self.network.run_layer(number, hidden, rotary, self._causal(hidden, number))
        return torch.stack(scores, dim=1).unbind()

    def _head(self, cutoff: int, position: int) -> int:
        return (cutoff - self.start_layer) // self.layer_sep if self._by_layer else position

    def _causal(self, hidden: torch.Tensor, number: int) -> torch.Tensor:
        """What each token attends to, as numbers to add: (1, 1, tokens, tokens). Pads stand behind and are never seen."""
        places = torch.arange(hidden.shape[1], device=hidden.device)
        distance = places[:, None] - places  # (tokens, tokens)
        seen = distance >= 0
        if self._kinds is not None and self._kinds[number] == "sliding_attention" and self._window is not None:
            seen &= distance < self._window
        blocked = torch.zeros(seen.shape, dtype=hidden.dtype, device=hidden.device)
        return blocked.masked_fill_(~seen, torch.finfo(hidden.dtype).min)[None, None]


def compress(
    hidden: torch.Tensor, mask: torch.Tensor, query_lens: torch.Tensor, task_len: int, ratio: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace each group of neighbouring passage vectors by its mean, and move what is left together.

    Args:
        hidden: (rows, tokens, width), padded on the right.
        mask: (rows, tokens).
        query_lens: (rows,) how many vectors at the start of each row stay.
        task_len: How many vectors at the end of each row stay.
        ratio: How many vectors a group has; the last group of a passage may have fewer.

    Returns:
        The same of fewer tokens: (rows, fewer, width) and (rows, fewer).
    """
    lens = mask.sum(dim=1)  # (rows,)
    passage_lens = lens - query_lens - task_len
    groups = -(-passage_lens // ratio)  # (rows,)
    new_lens = query_lens + groups + task_len
    places = torch.arange(hidden.shape[1], device=hidden.device).expand(len(hidden), -1)  # (rows, tokens)
    query, passage_end = query_lens[:, None], (query_lens + passage_lens)[:, None]
    place = torch.where(places < query, places, query + (places - query) // ratio)
    place = torch.where(places >= passage_end, places - (passage_lens - groups)[:, None], place)
    longest = int(new_lens.max())
    place = torch.where(mask.bool(), place, longest)  # pads go behind the end, and are dropped
    ones = torch.ones_like(place, dtype=hidden.dtype)
    counts = hidden.new_zeros(len(hidden), longest + 1).scatter_add_(1, place, ones)
    parts = hidden / counts.gather(1, place)[..., None]  # divided first: sums of half precision overflow
    means = hidden.new_zeros(len(hidden), longest + 1, hidden.shape[2])
    means = means.scatter_add_(1, place[..., None].expand_as(hidden), parts)[:, :longest]
    kept = torch.arange(longest, device=hidden.device) < new_lens[:, None]  # (rows, fewer)
    return means, kept.to(mask.dtype)


def _blocks(model: ModelRef) -> tuple[type[Any], Any, float]:
    """The decoder's class, its configuration, and what embeddings are multiplied by."""
    raw = {key: value for key, value in model.config.items() if key not in _OWN_KEYS}
    kind = str(model.config.get("model_type", ""))
    config: Any
    if "gemma" in kind:
        config = _configured(transformers.Gemma2Config, raw)
        return transformers.Gemma2Model, config, config.hidden_size**0.5
    if "mistral" in kind:
        config = _configured(transformers.MistralConfig, raw)
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers
        return transformers.MistralModel, config, 1.0
    raise ModelLoadError(f"{model.name} is of type {kind!r}: give a lightweight reranker on Gemma 2 or Mistral")


def _configured(kind: Any, raw: dict[str, Any]) -> Any:
    return kind(**raw, attn_implementation="eager")  # sdpa leaves out Gemma 2's cap of attention


_OWN_KEYS: Final = frozenset(
    ("architectures", "auto_map", "dtype", "layer_sep", "layer_wise", "model_type", "start_layer", "torch_dtype")
)
