"""Fusion-in-decoder: the encoder reads every passage of a question apart, and the decoder reads all of them together.

A row is one question: the token ids of its passages, one after another, each of which ends with the end token. The decoder's
attention to the encoder has no positions, so that the passages' vectors only have to stand side by side.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Final

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from rerank import ModelRef, map_batches
from rerank_llm.forwards.loading import load_language_model
from rerank_llm.options import LoadingOptions
from rerank_torch.device import OUT_OF_MEMORY, memory_errors_raised
from rerank_torch.rows import Batch, Padding, Row, pad
from rerank_torch.runner import BATCH_TOKENS, CPU_BATCH_TOKENS

_SCORED_TOKENS: Final = 256
"""Tokens by which LiT5-Score divides, whatever a passage has."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a forward pass needs to know about all questions of a call, as ``Batch.shared``.

    Args:
        most: Maximum token count of an answer, the start token included.
        per_passage: So many tokens for each passage are allowed where that is more.
        max_tokens: Token budget of one batch of passages in the encoder; None is the device's default.
    """

    most: int
    per_passage: int = 0
    max_tokens: int | None = None

    def limit(self, passages: int) -> int:
        """Maximum token count of an answer about so many passages, the start token included."""
        return max(self.most, self.per_passage * passages)


@dataclass(frozen=True, slots=True)
class Fused:
    """Questions as the decoder reads them.

    Args:
        states: ``(questions, tokens, width)`` the encoder's vectors.
        mask: ``(questions, tokens)`` whether a token is real.
        lengths: The token count of each passage of each question.
    """

    states: torch.Tensor
    mask: torch.Tensor
    lengths: list[list[int]]


class FusionForward(ABC):
    """A fusion-in-decoder model on one device; ``Batch.shared`` is a `Task`.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        end: The token that ends a passage, and an answer.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LoadingOptions, end: int) -> None:
        self.network = load_language_model("AutoModelForSeq2SeqLM", model, options, device)
        self._end = end
        self._start = self.network.config.decoder_start_token_id

    @abstractmethod
    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor per question."""

    def fuse(self, batch: Batch) -> Fused:
        """Run the encoder over the passages of all questions, in batches of their own.

        Equal passages run once; a batch that does not fit into memory is halved.
        """
        mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask  # (questions, tokens)
        questions = [_split(ids[:count], self._end) for ids, count in zip(batch.ids.tolist(), mask.sum(dim=1).tolist())]
        passages = list(chain.from_iterable(questions))
        on_cpu = batch.ids.device.type == "cpu"
        vectors = map_batches(
            passages,
            list(map(len, passages)),
            partial(self._encode, device=batch.ids.device),
            max_tokens=batch.shared.max_tokens or (CPU_BATCH_TOKENS if on_cpu else BATCH_TOKENS),
            out_of_memory=OUT_OF_MEMORY,
        )
        following = iter(vectors)
        states = [torch.cat([next(following) for _ in question]) for question in questions]  # (tokens, width) each
        return Fused(
            pad_sequence(states, batch_first=True),  # (questions, tokens, width)
            mask.bool(),
            [list(map(len, question)) for question in questions],
        )

    def _encode(self, passages: list[tuple[int, ...]], device: torch.device) -> list[torch.Tensor]:
        """The vectors ``(tokens, width)`` of each passage."""
        batch = pad([Row(ids) for ids in passages], Padding(self._end), device)
        with memory_errors_raised():
            encoder = self.network.get_encoder()
            hidden = encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
        return [vectors[: len(ids)] for vectors, ids in zip(hidden, passages)]  # of (passages, tokens, width)

    def write(self, fused: Fused, task: Task) -> list[list[int]]:
        """Let the decoder write the most probable answers, with the end token where one ended by itself."""
        limits = [task.limit(len(passages)) for passages in fused.lengths]
        kind: Any = GenerationConfig
        settings = kind(
            max_length=max(limits),
            do_sample=False,
            num_beams=1,
            use_cache=True,
            decoder_start_token_id=self._start,
            eos_token_id=self._end,
            pad_token_id=self._end,
        )
        written = self.network.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=fused.states),
            attention_mask=fused.mask.long(),
            generation_config=settings,
        )  # (questions, start token and answer)
        return [list(_split(ids[1:limit], self._end)[0]) for ids, limit in zip(written.tolist(), limits)]


class WritingForward(FusionForward):
    """A fusion-in-decoder model that writes an order (LiT5-Distill, ListT5)."""

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """The token ids of one answer per question."""
        return [torch.tensor(ids) for ids in self.write(self.fuse(batch), batch.shared)]


class AttentionForward(FusionForward):
    """A fusion-in-decoder model whose attention to a passage while it writes is the passage's grade (LiT5-Score).

    Of each decoder layer, the attention of every step to every token of a passage is weighed with the length of the token's value
    vector, averaged over heads, and all are added up, but for tokens of the query. ``Row.first_len`` is how many tokens of
    every passage belong to the query.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        end: The token that ends a passage, and an answer.
    """

    def __init__(self, device: str, *, model: ModelRef, options: LoadingOptions, end: int) -> None:
        super().__init__(device, model=model, options=options, end=end)
        self._attentions = [block.layer[1].EncDecAttention for block in self.network.get_decoder().block]
        self._seen = threading.local()  # batches may run in several threads
        for attention in self._attentions:
            attention.q.register_forward_hook(self._keep_query)

    def _keep_query(self, module: torch.nn.Module, given: Any, query: torch.Tensor) -> None:
        self._seen.queries.append(query[:, -1:])  # (questions, 1, heads * head_width)

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """For each question the token count of what was written, and a grade per passage."""
        fused = self.fuse(batch)
        self._seen.queries = []
        answers = self.write(fused, batch.shared)
        layers = len(self._attentions)
        queries = [torch.cat(self._seen.queries[n::layers], dim=1) for n in range(layers)]
        self._seen.queries = []
        device = batch.ids.device
        written = torch.tensor(list(map(len, answers)), device=device)  # (questions,), one step per token
        is_step = torch.arange(queries[0].shape[1], device=device) < written[:, None]  # (questions, steps)
        sums = sum(
            self._weigh(attention, query, fused, is_step) for attention, query in zip(self._attentions, queries)
        )  # (questions, tokens)
        places = pad_sequence(
            [torch.cat([torch.arange(length) for length in passages]) for passages in fused.lengths], batch_first=True
        ).to(device)  # (questions, tokens), from 0 in each passage
        counted = fused.mask & (places >= batch.in_first.sum(dim=1, keepdim=True))  # (questions, tokens)
        sums = (sums * counted) / (_SCORED_TOKENS * layers)
        return [
            torch.stack([length, *(part.sum() for part in row[: sum(passages)].split(passages))])
            for length, row, passages in zip(written.to(sums.dtype), sums, fused.lengths)
        ]

    def _weigh(self, attention: Any, query: torch.Tensor, fused: Fused, is_step: torch.Tensor) -> torch.Tensor:
        """One layer's attention to each token, weighed and added up over the steps: ``(questions, tokens)``."""
        shape = (len(query), -1, attention.n_heads, attention.key_value_proj_dim)
        queries = query.view(shape).float()  # (questions, steps, heads, head_width)
        keys = attention.k(fused.states).view(shape).float()  # (questions, tokens, heads, head_width)
        values = attention.v(fused.states).view(shape).float()  # the same
        products = torch.einsum("qshw,qthw->qhst", queries, keys)
        weights = products.masked_fill(~fused.mask[:, None, None], float("-inf")).softmax(dim=-1)
        over_steps = torch.einsum("qhst,qs->qth", weights, is_step.float())
        lengths: torch.Tensor = values.norm(dim=-1)  # (questions, tokens, heads)
        return (over_steps * lengths).mean(dim=-1)


def _split(ids: Sequence[int], end: int) -> list[tuple[int, ...]]:
    """Token ids in parts that end with the end token; the last one may lack it."""
    parts: list[tuple[int, ...]] = []
    start = 0
    for n, token in enumerate(ids, start=1):
        if token == end:
            parts.append(tuple(ids[start:n]))
            start = n
    return [*parts, tuple(ids[start:])] if start < len(ids) else parts
