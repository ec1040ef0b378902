"""Encoder-decoders of T5's kind: verdict tokens at the decoder's first step, or the likelihood of the query."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rerank import ModelRef
from rerank_llm.forwards.causal import log_odds
from rerank_llm.forwards.loading import load_language_model
from rerank_llm.forwards.verdicts import keep_verdicts
from rerank_llm.options import LoadingOptions
from rerank_torch.rows import Batch


class T5Forward:
    """An encoder-decoder on one device: the encoder reads a row, and the decoder takes one step.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        verdicts: The tokens whose logits are read: relevant first.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LoadingOptions, verdicts: Sequence[int]) -> None:
        self.network = load_language_model("AutoModelForSeq2SeqLM", model, options, device)
        keep_verdicts(self.network, verdicts)
        self._start = self.network.config.decoder_start_token_id

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One score per row: the logit of the one verdict, or the log-odds of the two."""
        start = torch.full((len(batch.ids), 1), self._start, device=batch.ids.device)  # (rows, 1)
        logits = self.network(
            input_ids=batch.ids, attention_mask=batch.mask, decoder_input_ids=start, use_cache=False
        ).logits  # (rows, 1, verdicts)
        return log_odds(logits[:, 0]).unbind()


class T5LikelihoodForward:
    """An encoder-decoder on one device: the encoder reads a passage, and the score is the likelihood of the query.

    ``Batch.shared`` are the query's token ids, with the end token.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LoadingOptions) -> None:
        self.network = load_language_model("AutoModelForSeq2SeqLM", model, options, device)
        self._start = self.network.config.decoder_start_token_id

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One sum of log-probabilities per row."""
        target = torch.tensor([batch.shared], device=batch.ids.device)  # (1, target)
        given = torch.cat([target.new_full((1, 1), self._start), target[:, :-1]], dim=1)  # (1, target)
        rows = len(batch.ids)
        logits = self.network(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            decoder_input_ids=given.expand(rows, -1),
            use_cache=False,
        ).logits  # (rows, target, vocabulary)
        likelihoods: torch.Tensor = logits.float().log_softmax(dim=-1).gather(2, target.expand(rows, -1)[..., None])
        return likelihoods[..., 0].sum(dim=1).unbind()
