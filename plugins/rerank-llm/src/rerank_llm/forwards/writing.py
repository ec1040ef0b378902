"""Causal language models that write: rows are continued until each has found its end or reached its limit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from rerank import ModelRef, ScoringError
from rerank_llm.forwards.loading import load_language_model
from rerank_llm.options import LoadingOptions
from rerank_torch.rows import Batch


@dataclass(frozen=True, slots=True)
class Writing:
    """Continue every row, as ``Batch.shared``.

    Args:
        temperature: Temperature of sampling; 0 takes the most probable token.
        top_p: Share of probability that is sampled from.
    """

    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Choosing:
    """Read the log-probabilities of some tokens after every row, as ``Batch.shared``.

    Args:
        tokens: Their ids.
    """

    tokens: tuple[int, ...]


class CausalWritingForward:
    """A causal model on one device; ``Batch.shared`` is a `Writing` or a `Choosing`.

    Rows are padded on the left, as generation needs them. What the checkpoint's ``generation_config.json`` says about sampling,
    penalties, beams and lengths does not count.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        ends: Tokens that end an answer.
        pad_id: The token that fills rows.
        context_size: How many tokens the model has positions for; None if it states none.
    """

    def __init__(
        self,
        device: str,
        *,
        model: ModelRef,
        options: LoadingOptions,
        ends: Sequence[int],
        pad_id: int,
        context_size: int | None,
    ) -> None:
        self.network = load_language_model("AutoModelForCausalLM", model, options, device)
        self._name, self._ends, self._pad_id, self._context_size = model.name, list(ends), pad_id, context_size
        kind: Any = GenerationConfig
        self.network.generation_config = kind()  # transformers 5 would fill ours from it

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor per row: the token ids that it wrote, with its end token, or the log-probabilities that are asked for."""
        if isinstance(batch.shared, Choosing):
            return self._choose(batch, batch.shared.tokens)
        longest = batch.ids.shape[1] + max(batch.room)
        if len(batch.room) > 1 and self._context_size is not None and longest > self._context_size:
            return [self._write(_only(batch, row))[0] for row in range(len(batch.room))]
        return self._write(batch)

    def _write(self, batch: Batch) -> list[torch.Tensor]:
        prompt_len = batch.ids.shape[1]
        steps = _Steps(batch, prompt_len)
        written = self._generate(
            batch,
            max_new_tokens=max(batch.room),
            logits_processor=LogitsProcessorList([steps]),
            stopping_criteria=StoppingCriteriaList([_RowsFull(batch.room, prompt_len)]),
        ).sequences[:, prompt_len:]  # (rows, answer)
        self._check(steps.are_numbers)
        return [torch.tensor(self._cut(ids[:room])) for ids, room in zip(written.tolist(), batch.room)]

    def _choose(self, batch: Batch, tokens: Sequence[int]) -> Sequence[torch.Tensor]:
        output = self._generate(batch, max_new_tokens=1, output_logits=True, use_cache=False)
        (logits,) = output.logits  # (rows, vocabulary)
        known: torch.Tensor = logits.float().log_softmax(dim=-1)[:, list(tokens)]  # (rows, tokens)
        self._check(~known.isnan().any(dim=-1))
        return known.unbind()

    def _generate(
        self,
        batch: Batch,
        *,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        **settings: Any,
    ) -> Any:
        kind: Any = GenerationConfig
        return self.network.generate(
            input_ids=batch.ids,
            attention_mask=torch.ones_like(batch.ids) if batch.mask is None else batch.mask,
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            generation_config=kind(
                do_sample=False,
                num_beams=1,
                eos_token_id=self._ends or None,
                pad_token_id=self._pad_id,
                return_dict_in_generate=True,
                **settings,
            ),
        )

    def _cut(self, ids: list[int]) -> list[int]:
        """What a row wrote up to its end token, which is included."""
        return ids[: next((n for n, token in enumerate(ids, start=1) if token in self._ends), len(ids))]

    def _check(self, are_numbers: torch.Tensor) -> None:
        """Check ``(rows,)`` whether a row's logits were numbers.

        Raises:
            ScoringError: Those of one were not.
        """
        if not bool(are_numbers.all()):
            raise ScoringError(
                f"{self._name} answered with a value that is no number, which usually means that its dtype overflowed: "
                "use dtype='bf16' or dtype='fp32'"
            )


class _Steps(LogitsProcessor):
    """Checks the logits of every step, and leaves only the token that is sampled where there is a temperature.

    The numbers that sampling draws come from the row's own token ids. So a prompt gets the same answer each time, whatever
    other rows are in its batch.
    """

    def __init__(self, batch: Batch, prompt_len: int) -> None:
        self._prompt_len, self._how = prompt_len, batch.shared
        self.are_numbers = torch.ones(len(batch.ids), dtype=torch.bool, device=batch.ids.device)  # (rows,)
        if self._how.temperature > 0:
            rows = [ids[-length:] for ids, length in zip(batch.ids.tolist(), batch.lengths)]
            draws = [_draw(ids, max(batch.room)) for ids in rows]
            self._draws = torch.tensor(draws, device=batch.ids.device)  # (rows, steps)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Take ``(rows, vocabulary)`` logits of a step, and return those of which the largest counts."""
        self.are_numbers &= ~(scores.isnan() | scores.isposinf()).any(dim=-1)
        if self._how.temperature <= 0:
            return scores
        draws = self._draws[:, input_ids.shape[1] - self._prompt_len, None]  # (rows, 1)
        sampled = sample(scores, self._how, draws)  # (rows, 1)
        return torch.full_like(scores, float("-inf")).scatter(-1, sampled, 0.0)


def sample(logits: torch.Tensor, how: Writing, draws: torch.Tensor) -> torch.Tensor:
    """The token ``(rows, 1)`` to which draws ``(rows, 1)`` from [0, 1) lead, through the most probable ones that have ``top_p``."""
    warm = (logits.float() - logits.float().amax(dim=-1, keepdim=True)) / how.temperature
    shares, tokens = warm.softmax(dim=-1).sort(dim=-1, descending=True)  # (rows, vocabulary)
    sums = shares.cumsum(dim=-1)
    kept = sums - shares < how.top_p  # (rows, vocabulary), at least the first
    whole = (shares * kept).sum(dim=-1, keepdim=True)  # (rows, 1)
    places = ((sums <= draws * whole) & kept).sum(dim=-1, keepdim=True)  # (rows, 1)
    last = (kept.sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # (rows, 1); values that are no numbers keep none
    return tokens.gather(-1, places.minimum(last))


def _draw(ids: Sequence[int], steps: int) -> list[float]:
    draws = random.Random(repr(ids))  # noqa: S311 (a choice of words, not a secret)
    return [draws.random() for _ in range(steps)]


class _RowsFull(StoppingCriteria):
    """Stops each row at its own limit."""

    def __init__(self, room: Sequence[int], prompt_len: int) -> None:
        self._room, self._prompt_len = room, prompt_len

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Whether each row ``(rows,)`` is at its limit."""
        written = input_ids.shape[1] - self._prompt_len
        return torch.tensor([written >= room for room in self._room], device=input_ids.device)


def _only(batch: Batch, row: int) -> Batch:
    """One row of a batch, without its padding: next to a longer one, it might be continued beyond the last position."""
    length = batch.lengths[row]
    ids, in_first = batch.ids[row : row + 1, -length:], batch.in_first[row : row + 1, -length:]  # (1, tokens)
    return Batch(ids=ids, lengths=(length,), mask=None, in_first=in_first, room=(batch.room[row],), shared=batch.shared)
