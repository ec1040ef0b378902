"""Causal language models: verdict tokens at the last position, or the likelihood of the query after the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, Final

import torch
from transformers import DynamicCache, LlamaForCausalLM

from rerank import ForkSafeLock, ModelRef
from rerank_llm.forwards.loading import load_language_model
from rerank_llm.forwards.verdicts import keep_verdicts, last_real
from rerank_llm.options import LlmOptions
from rerank_torch.rows import Batch

_ARGUMENTS: Final = signature(LlamaForCausalLM.forward).parameters
LOGITS_TO_KEEP: Final = "logits_to_keep" if "logits_to_keep" in _ARGUMENTS else "num_logits_to_keep"
_CACHE: Final = "cache" if "cache" in _ARGUMENTS else "past_key_values"
"""What this transformers calls two arguments of every causal model."""


class CausalForward:
    """A causal model on one device, which reads verdict tokens at the last position of each row.

    Rows are padded on the right: under a causal mask no real token attends to a pad, so that no mask is needed, and
    attention keeps its fast path. ``Batch.shared`` are the ids of a prefix that all rows of the batch continue; its keys
    and values are computed once.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        verdicts: The tokens whose logits are read: relevant first.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LlmOptions, verdicts: Sequence[int]) -> None:
        self.network = load_language_model("AutoModelForCausalLM", model, options, device)
        keep_verdicts(self.network, verdicts)
        self._prefixes = _Prefixes(self.network, device)

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One score per row: the logit of the one verdict, or the log-odds of the two."""
        inputs: dict[str, Any] = {"use_cache": False}
        if batch.shared:
            rows, tokens = batch.ids.shape
            inputs = {
                "use_cache": True,
                _CACHE: self._prefixes.for_rows(batch.shared, rows),
                "attention_mask": batch.ids.new_ones(
                    rows, len(batch.shared) + tokens
                ),  # transformers 4 needs the length
            }
        logits = self.network(input_ids=batch.ids, **inputs).logits  # (rows, tokens, verdicts)
        return log_odds(last_real(logits, batch.mask)).unbind()


def log_odds(verdicts: torch.Tensor) -> torch.Tensor:
    """``(rows, 1 or 2)`` logits → ``(rows,)``: the one, or relevant minus not relevant."""
    verdicts = verdicts.float()
    return verdicts[:, 0] if verdicts.shape[1] == 1 else verdicts[:, 0] - verdicts[:, 1]


class LikelihoodForward:
    """A causal model on one device; a row's score is the log-likelihood of its last tokens.

    Rows are padded on the left, so that the queries stand below each other and only their logits are computed.
    ``Batch.shared`` is how many tokens at the end of every row are the query.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LlmOptions) -> None:
        self.network = load_language_model("AutoModelForCausalLM", model, options, device)

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One sum of log-probabilities per row."""
        target_len: int = batch.shared
        inputs = {}
        if batch.mask is not None:
            positions = (batch.mask.cumsum(dim=1) - 1).clamp(min=0)  # (rows, tokens)
            inputs = {"attention_mask": batch.mask, "position_ids": positions}
        keep = {LOGITS_TO_KEEP: target_len + 1}
        logits = self.network(input_ids=batch.ids, use_cache=False, **inputs, **keep).logits
        predicted = logits[:, :-1].float().log_softmax(dim=-1)  # (rows, target, vocabulary)
        target = batch.ids[:, -target_len:, None]  # (rows, target, 1)
        likelihoods: torch.Tensor = predicted.gather(2, target)[..., 0].sum(dim=1)  # (rows,)
        return likelihoods.unbind()


class _Prefixes:
    """Keys and values of the last prefixes that were asked for; the same for all threads."""

    KEPT = 8

    def __init__(self, network: Any, device: str) -> None:
        self._network, self._device = network, device
        self._known: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._lock = ForkSafeLock()

    def for_rows(self, prefix: tuple[int, ...], rows: int) -> Any:
        """A cache that begins with the prefix in each of some rows."""
        with self._lock:
            layers = self._known.pop(prefix, None) or self._compute(prefix)
            self._known[prefix] = layers  # the last used is the last to go
            while len(self._known) > self.KEPT:
                self._known.pop(next(iter(self._known)))
        return new_cache([(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in layers])

    def _compute(self, prefix: tuple[int, ...]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        cache = new_cache([])
        ids = torch.tensor([prefix], device=self._device)  # (1, tokens)
        self._network(input_ids=ids, use_cache=True, **{_CACHE: cache})
        return read_cache(cache)


def new_cache(layers: list[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    """A cache of keys and values ``(rows, heads, tokens, head_width)`` per layer, with transformers 4 or 5."""
    kind: Any = DynamicCache
    if hasattr(kind, "from_legacy_cache"):
        return kind.from_legacy_cache(tuple(layers))
    return kind(ddp_cache_data=layers) if layers else kind()


def read_cache(cache: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The keys and values of each layer."""
    if hasattr(cache, "layers"):
        return [(layer.keys, layer.values) for layer in cache.layers]
    return list(zip(cache.key_cache, cache.value_cache))
