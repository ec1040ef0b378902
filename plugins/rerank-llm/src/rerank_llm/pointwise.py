"""Scores from the verdict at the position after the prompt; what all documents of a query share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Final

from rerank import Request, Scores
from rerank_llm.forwards.bidirectional import BidirectionalForward
from rerank_llm.forwards.causal import CausalForward
from rerank_llm.forwards.t5 import T5Forward
from rerank_llm.options import CausalOptions, LlmOptions
from rerank_llm.scorer import PromptScorer
from rerank_torch.rows import Row
from rerank_torch.runner import CHANGING_ROPES, Forward

_REUSABLE: Final = frozenset(
    ("gemma", "gemma2", "gemma3_text", "granite", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3")
)
"""Model types whose every layer keeps keys and values; others may have a state that rows cannot share."""

REUSE_FROM: Final = 0.1
"""The share of all prompts from which their prefix is computed once.

Measured on two cores with ``benchmarks/llm.py``, 100 documents, seconds without and with: 12.3 and 8.1 where the prefix is a
third, 9.7 and 9.5 where it is a tenth.
"""

REUSE_ROWS: Final = 4
"""The number of rows from which that pays: the prefix itself is computed by one stream, while the others wait.

Measured likewise, where the prefix is a third: with 2 rows .16 and .22 s, with 3 .26 and .25 s, with 4 .50 and .37 s.
"""


class Pointwise(PromptScorer):
    """Scores each document by the logit of a verdict, or by the log-odds of two."""

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        forward = T5Forward if self.recipe.is_encoder_decoder else CausalForward
        return partial(forward, model=self.model, options=options, verdicts=self.prompt.verdicts)

    @property
    def reusable(self) -> bool:
        """Whether what all rows of a query begin with can be computed once.

        Every layer must keep keys and values, and positions must turn them alike whatever the length of a row.
        """
        config = self.model.config
        rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
        changing = {rope.get("rope_type"), rope.get("type")} & {*CHANGING_ROPES, "su"}  # su: longrope's former name
        fitting = self.recipe.kind == "causal" and self.recipe.begins_with_query
        return fitting and config.get("model_type") in _REUSABLE and not changing

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score requests with the same options together."""
        options = requests[0].options
        assert isinstance(options, LlmOptions)
        encoded = self.encode(requests, options)
        prefixes = [self._prefix(one.pairs.rows, options) for one in encoded]
        if any(prefixes):
            for one, prefix in zip(encoded, prefixes):
                rows = [Row(tuple(ids[len(prefix) :])) for ids in one.pairs.rows]
                values = map(float, self.run(rows, options, prefix, shared_len=len(prefix)))
                yield self.answer(one, values, options, "logit", {"prefix": len(prefix)})
            return
        rows = [Row(tuple(ids)) for one in encoded for ids in one.pairs.rows]
        values = map(float, self.run(rows, options))
        for one in encoded:
            yield self.answer(one, values, options, "logit", {})

    def _prefix(self, rows: Sequence[list[int]], options: LlmOptions) -> tuple[int, ...]:
        """What a request's rows have in common at their start, if computing it once pays; else nothing."""
        wanted = options.prefix_reuse if isinstance(options, CausalOptions) else False
        if wanted is False or not self.reusable:
            return ()
        low, high = min(rows), max(rows)  # what these two share, all between them share
        longest = min(map(len, rows)) - 1  # every row keeps a token
        common = next((n for n in range(longest) if low[n] != high[n]), longest)
        pays = len(rows) >= REUSE_ROWS and common * len(rows) >= REUSE_FROM * sum(map(len, rows))
        return tuple(low[:common]) if wanted or pays else ()


class Bidirectional(Pointwise):
    """Scores each document by one head on the mean of all token vectors; nothing can be reused."""

    native: ClassVar[bool] = True

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        return partial(BidirectionalForward, model=self.model, options=options)
