"""Llama without its causal mask, the mean of its token vectors, and one linear head (llama-nemotron-rerank)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers

from rerank import ModelLoadError, ModelRef
from rerank_llm.forwards.native import load_native
from rerank_llm.options import LlmOptions
from rerank_torch.rows import Batch

_OWN_KEYS = frozenset(("architectures", "auto_map", "dtype", "model_type", "pooling", "temperature", "torch_dtype"))


class _Network(torch.nn.Module):
    def __init__(self, config: transformers.LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = transformers.LlamaModel(config)
        self.score = torch.nn.Linear(config.hidden_size, 1, bias=False)


class BidirectionalForward:
    """The model on one device.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is; its weights are ``model.…`` and ``score.weight``.
        options: How to load it.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LlmOptions) -> None:
        if (pooling := model.config.get("pooling") or "avg") != "avg":
            raise ModelLoadError(
                f"{model.name} has pooling {pooling!r}: give a model with the mean of all tokens, 'avg'"
            )
        raw = {key: value for key, value in model.config.items() if key not in _OWN_KEYS}
        kind: Any = transformers.LlamaConfig
        config = kind(**raw, attn_implementation="sdpa")
        self.network = load_native(model, options, device, lambda: _Network(config))
        self.network.model.rotary_emb = type(self.network.model.rotary_emb)(config=config).to(device)
        self._temperature = float(model.config.get("temperature") or 1.0)

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One logit per row."""
        mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask  # (rows, tokens)
        dtype = self.network.score.weight.dtype
        blocked = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        blocked = blocked.masked_fill(mask == 0, torch.finfo(dtype).min)[:, None, None]  # (rows, 1, 1, tokens)
        seen = blocked.expand(-1, 1, mask.shape[1], -1)  # (rows, 1, tokens, tokens)
        hidden = self.network.model(input_ids=batch.ids, attention_mask=seen, use_cache=False).last_hidden_state
        weights = mask[..., None].float()  # (rows, tokens, 1)
        mean = (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)  # (rows, width)
        logits: torch.Tensor = self.network.score(mean.to(dtype))[:, 0].float()  # (rows,)
        return (logits / self._temperature).unbind()
