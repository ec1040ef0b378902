"""MiniCPM with a head per layer (bge-reranker-v2-minicpm-layerwise): computation stops at the last cutoff.

FlagEmbedding 1.4.2, ``modeling_minicpm_reranker.py``: the state before layer k runs, through the model's final norm, is
what the head of cutoff k reads. FlagEmbedding crosses heads where cutoffs are not in ascending order; here they are sorted.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import GraniteModel

from rerank import ModelRef
from rerank_llm.forwards.native import granite_config, load_layered
from rerank_llm.forwards.verdicts import last_real
from rerank_llm.options import LlmOptions
from rerank_torch.rows import Batch


class LayerwiseForward:
    """The model on one device; ``Batch.shared`` are the cutoffs in ascending order.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LlmOptions) -> None:
        config = granite_config(model.config)
        self.start_layer = int(model.config.get("start_layer", 8))
        self.network = load_layered(
            model, options, device, GraniteModel, config, float(model.config.get("scale_emb", 1.0))
        )

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor ``(cutoffs,)`` per row."""
        cutoffs: Sequence[int] = batch.shared
        hidden = self.network.embed(batch.ids)  # (rows, tokens, width)
        rotary = self.network.rotate(hidden)
        scores = []
        for number in range(cutoffs[-1] + 1):
            if number in cutoffs:
                last = last_real(hidden, batch.mask)  # (rows, width)
                scores.append(self.network.score(last, number - self.start_layer))
            if number < cutoffs[-1]:
                hidden = self.network.run_layer(number, hidden, rotary)
        return torch.stack(scores, dim=1).unbind()
