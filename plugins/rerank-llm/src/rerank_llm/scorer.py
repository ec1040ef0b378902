"""What every scorer of this distribution does: texts to rows as the recipe says, rows through the model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rerank import (
    GroupScorer,
    InvalidOptionsError,
    ModelRef,
    Options,
    Request,
    Scores,
    ScoreScale,
    ScoringError,
    query_limit,
)
from rerank_llm.options import CausalOptions, LlmOptions
from rerank_llm.prompt import Encoded, Prompt
from rerank_llm.recipe import Recipe
from rerank_torch.loading import load_config
from rerank_torch.rows import Padding, Row
from rerank_torch.runner import Forward, Runner


class PromptScorer(GroupScorer):
    """Prompts a model about each document.

    Args:
        model: Where the checkpoint is.
        options: How to load and run it.
        recipe: How to prompt it.

    Raises:
        ModelLoadError: The checkpoint cannot be loaded, or its tokenizer does not fit the recipe.
    """

    side: ClassVar[Literal["left", "right"]] = "right"
    """The side on which short rows are filled."""

    native: ClassVar[bool] = False
    """Whether the network is built here, so that transformers need not know the configuration."""

    def __init__(self, model: ModelRef, options: LlmOptions, recipe: Recipe) -> None:
        self.model, self.recipe = model, recipe
        config = model.config if self.native else load_config(model, options).to_dict()
        self.prompt = Prompt.load(recipe, model, options, config)
        self.check(options)
        self.runner = Runner(self.starting(options), options, Padding(self.prompt.pad_id, self.side))

    @property
    def reusable(self) -> bool:
        """Whether what all rows of a query begin with can be computed once."""
        return False

    @abstractmethod
    def starting(self, options: LlmOptions) -> Callable[[str], Forward]:
        """What starts the model on a device, by its name; pickles, for several devices."""

    def encode(self, requests: Iterable[Request], options: LlmOptions) -> list[Encoded]:
        """The rows of each request.

        Raises:
            InvalidOptionsError: A limit does not fit the model or the prompt, or the model has no use for an option.
        """
        self.check(options)
        max_length = self.prompt.max_length(options)
        limit = query_limit(options.query_max_length or self.recipe.query_max_length, max_length)
        return [
            self.prompt.encode(
                request.query,
                [document.text for document in request.documents],
                options,
                instruction=options.instruction,
                max_length=max_length,
                query_max_length=limit,
            )
            for request in requests
        ]

    def check(self, options: LlmOptions) -> None:
        """Check that the model can follow the options, before anything is loaded and for each call.

        Raises:
            InvalidOptionsError: It cannot.
        """
        self.prompt.max_length(options)
        self.recipe.choose_pieces(options.instruction)
        if not isinstance(options, CausalOptions):
            return
        if options.prefix_reuse and not self.reusable:
            raise InvalidOptionsError(
                f"{self.model.name} with recipe {self.recipe.name!r} cannot reuse a prefix: leave prefix_reuse out"
            )
        if options.max_new_tokens is not None and self.recipe.kind != "reasoning":
            raise InvalidOptionsError(
                f"{self.model.name} with recipe {self.recipe.name!r} writes nothing: leave max_new_tokens out"
            )

    def run(
        self, rows: Sequence[Row], options: LlmOptions, shared: Any = None, shared_len: int = 0
    ) -> list[NDArray[np.float32]]:
        """Rows through the model; see `rerank_torch.runner.Runner`.

        Raises:
            ScoringError: A value is no number, as when half precision overflows.
        """
        values = self.runner(rows, options, shared=shared, shared_len=shared_len)
        if not all(np.isfinite(value).all() for value in values):
            raise ScoringError(
                f"{self.model.name} answered with a value that is no number, which usually means that its dtype "
                "overflowed: use dtype='bf16' or dtype='fp32'"
            )
        return values

    def answer(
        self,
        one: Encoded,
        values: Iterator[float],
        options: Options,
        scale: ScoreScale,
        diagnostics: Mapping[str, Any],
    ) -> Scores:
        """One request's scores, from the next values, one per row."""
        scores = one.pairs.scores(values, options, scale)
        return replace(scores, diagnostics={**scores.diagnostics, "defused": one.defused, "prefix": 0, **diagnostics})

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        """Raw values through the model's own published map, to [0, 1]."""
        return self.recipe.calibrate(values)

    def close(self) -> None:
        """End the streams and the processes."""
        self.runner.close()
