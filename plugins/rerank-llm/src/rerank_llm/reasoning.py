"""Scores from the verdict after a chain of thought (Rank1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Final, Literal

from rerank import Request, Scores
from rerank_llm.forwards.reasoning import ReasoningForward
from rerank_llm.options import CausalOptions, LlmOptions
from rerank_llm.scorer import PromptScorer
from rerank_torch.rows import Row
from rerank_torch.runner import Forward

MAX_NEW_TOKENS: Final = 2048
"""How many tokens a chain of thought may have, unless the user says otherwise."""


class Reasoning(PromptScorer):
    """Scores each document by the log-odds of the verdict that follows a chain of thought about it."""

    side: ClassVar[Literal["left", "right"]] = "left"

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        return partial(
            ReasoningForward,
            model=self.model,
            options=options,
            tokens=self.prompt.tokens,
            verdicts=self.prompt.verdicts,
        )

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score each request."""
        options = requests[0].options
        assert isinstance(options, CausalOptions)
        for one in self.encode(requests, options):
            rows = [Row(tuple(ids)) for ids in one.pairs.rows]
            answers = self.run(rows, options, options.max_new_tokens or MAX_NEW_TOKENS)  # (3,) per row
            diagnostics = {
                "unfinished": sum(not ended for _, ended, _ in answers),
                "generated_tokens": int(sum(written for _, _, written in answers)),
            }
            yield self.answer(one, (float(value) for value, _, _ in answers), options, "logit", diagnostics)
