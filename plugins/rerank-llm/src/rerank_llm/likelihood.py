"""Scores from the log-likelihood of the query, as the model would ask it about the document (UPR, query likelihood)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar, Literal

from rerank import Request, Scores
from rerank_llm.forwards.causal import LikelihoodForward
from rerank_llm.forwards.t5 import T5LikelihoodForward
from rerank_llm.options import LlmOptions
from rerank_llm.scorer import PromptScorer
from rerank_torch.rows import Row
from rerank_torch.runner import Forward


class CausalLikelihood(PromptScorer):
    """A causal model continues each prompt with the query."""

    side: ClassVar[Literal["left", "right"]] = "left"

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        return partial(LikelihoodForward, model=self.model, options=options)

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score each request."""
        options = requests[0].options
        assert isinstance(options, LlmOptions)
        for one in self.encode(requests, options):
            rows = [Row((*ids, *one.target)) for ids in one.pairs.rows]
            values = self.run(rows, options, len(one.target))
            yield self.answer(one, map(float, values), options, "similarity", {})


class T5Likelihood(PromptScorer):
    """An encoder reads each prompt, and the decoder writes the query."""

    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device."""
        return partial(T5LikelihoodForward, model=self.model, options=options)

    def score_group(self, requests: Sequence[Request]) -> Iterator[Scores]:
        """Score each request."""
        options = requests[0].options
        assert isinstance(options, LlmOptions)
        for one in self.encode(requests, options):
            rows = [Row(tuple(ids)) for ids in one.pairs.rows]
            yield self.answer(one, map(float, self.run(rows, options, one.target)), options, "similarity", {})
