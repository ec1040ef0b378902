"""Models that reason before they judge (Rank1): a chain of thought is written, then closed, then the verdict is read.

orionw/rank1, ``rank1.py``: an unfinished chain is cut after its last sentence, set between line breaks and closed, and its
verdict is asked all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from rerank import FastTokens, ModelRef
from rerank_llm.forwards.causal import LOGITS_TO_KEEP
from rerank_llm.forwards.loading import load_language_model
from rerank_llm.options import LlmOptions
from rerank_llm.recipe import END_OF_THOUGHT
from rerank_torch.rows import Batch

_TAIL: Final = 8
"""How many of the last tokens may hold the end of a chain."""


class ReasoningForward:
    """The model on one device; ``Batch.shared`` is how many tokens a chain of thought may have.

    Rows are padded on the left, as generation needs them.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        tokens: The tokenizer, in which the end of a chain is found.
        verdicts: The tokens whose logits are read: relevant, then not relevant.
    """

    def __init__(
        self, device: str, *, model: ModelRef, options: LlmOptions, tokens: FastTokens, verdicts: Sequence[int]
    ) -> None:
        self.network = load_language_model("AutoModelForCausalLM", model, options, device)
        self._tokenizer = tokens.tokenizer
        self._verdicts = list(verdicts)
        stops = self.network.generation_config.eos_token_id
        self._stops = set(stops if isinstance(stops, list) else [stops])

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor per row: the log-odds, whether the chain ended by itself, and its token count."""
        prompt_len = batch.ids.shape[1]
        mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask
        written = self.network.generate(
            input_ids=batch.ids,
            attention_mask=mask,
            max_new_tokens=batch.shared,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([_ChainEnded(self._tokenizer, prompt_len)]),
        )[:, prompt_len:]  # (rows, chain)
        return [
            self._judge(ids[real.bool()].tolist(), chain.tolist()) for ids, real, chain in zip(batch.ids, mask, written)
        ]

    def _judge(self, prompt: list[int], chain: list[int]) -> torch.Tensor:
        chain = list(takewhile(lambda i: i not in self._stops, chain))
        ended = self._find_end(chain)
        kept = self._close(chain) if ended is None else chain[:ended]
        ids = torch.tensor([[*prompt, *kept]], device=self.network.device)
        output = self.network(input_ids=ids, use_cache=False, **{LOGITS_TO_KEEP: 1}).logits  # (1, 1, vocabulary)
        logits = output[0, -1, self._verdicts].float()  # (2,)
        return torch.stack(
            [logits[0] - logits[1], torch.tensor(float(ended is not None)), torch.tensor(len(chain) * 1.0)]
        )

    def _close(self, chain: list[int]) -> list[int]:
        """An unfinished chain up to its last whole sentence, if it has one, and the end after it."""
        text = self._tokenizer.decode(chain, skip_special_tokens=False).strip()
        whole = max(text.rfind(mark) for mark in ".!?") + 1
        ids: list[int] = self._tokenizer.encode(
            f"\n{text[:whole] or text}\n{END_OF_THOUGHT}", add_special_tokens=False
        ).ids
        return ids

    def _find_end(self, chain: list[int]) -> int | None:
        """How many tokens a chain has up to its end, which is included; None if it did not end."""
        return next((n for n in range(1, len(chain) + 1) if _ends(self._tokenizer, chain[:n])), None)


def _ends(tokenizer: Any, ids: list[int]) -> bool:
    return END_OF_THOUGHT in tokenizer.decode(ids[-_TAIL:], skip_special_tokens=False)


class _ChainEnded(StoppingCriteria):
    """Stops a row at the end of its chain."""

    def __init__(self, tokenizer: Any, prompt_len: int) -> None:
        self._tokenizer, self._prompt_len = tokenizer, prompt_len

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        ended = [_ends(self._tokenizer, ids[self._prompt_len :].tolist()) for ids in input_ids]
        return torch.tensor(ended, device=input_ids.device)
