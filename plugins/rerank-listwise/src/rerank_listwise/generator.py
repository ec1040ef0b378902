"""A generator describes one way to run a language model that answers questions, as a `rerank.Backend` describes one way to score.

There are two levels. A `Writer` continues prompts with text, and `rerank_listwise.prompted.Prompted` makes it answer questions
through a recipe. A model that reads passages in a way of its own (fusion-in-decoder, one vector per passage) is an
`Answerer` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from rerank import Claim, ModelRef, Options, ScoreScale
from rerank_listwise.questions import Answer, Asked, Kind, Tally
from rerank_listwise.recipe import AlgorithmName, Completion, Prompt
from rerank_listwise.rounds import Work

V = TypeVar("V")


class TextMeasure(Protocol):
    """The tokens of the model at hand."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without special tokens."""
        ...

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text that has at most so many tokens."""
        ...


@runtime_checkable
class Writer(Protocol):
    """A language model that continues prompts. Safe to call from several threads at once.

    Attributes:
        measure: Its tokens.
        context_size: How many tokens prompt and answer may have together; None if that is unknown.
    """

    measure: TextMeasure
    context_size: int | None

    def write(self, prompts: Sequence[Prompt], options: Any) -> Sequence[Completion]:
        """Continue prompts, in batches where that is faster. An answer has at most what the context leaves.

        An answer has at most ``max_new_tokens`` of its prompt, and ``usual_tokens`` where that is None.

        Args:
            prompts: The prompts.
            options: The options of the call.

        Returns:
            One completion per prompt, in order.
        """
        ...

    def defuse(self, text: str) -> tuple[str, int]:
        """A text with its special tokens made plain text, and how many there were."""
        ...

    def prompt_tokens(self, prompt: Prompt) -> int:
        """How many tokens the model would read, with its chat template and special tokens."""
        ...

    def close(self) -> None:
        """Release everything; called once."""
        ...


@runtime_checkable
class RemoteWriter(Protocol):
    """A writer behind a network, which runs whole works on an event loop of its own.

    Attributes:
        measure: The model's tokens, or an estimate of them.
        context_size: How many tokens prompt and answer may have together; None if that is unknown.
        max_concurrency: How many requests it sends at the same time.
    """

    measure: TextMeasure
    context_size: int | None
    max_concurrency: int

    def submit(self, work: Work[Prompt, Completion, V], options: Any, tally: Tally) -> Future[V]:
        """Start a work; its prompts of one round are sent at the same time. Cancelling the future cancels its requests."""
        ...

    def prompt_tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt has."""
        ...

    def close(self) -> None:
        """Cancel pending requests and close every connection."""
        ...


@runtime_checkable
class Answerer(Protocol):
    """A model that answers questions about passages. Safe to call from several threads at once.

    Attributes:
        kinds: The kinds of questions that it answers; `rerank_listwise.derive` turns the others into these.
        algorithm: The algorithm that it was made for.
        window_size: Passages per window that it was made for; one that only compares two is asked about a window in pairs.
        scale: What its grades mean.
    """

    kinds: frozenset[Kind]
    algorithm: AlgorithmName
    window_size: int
    scale: ScoreScale

    def answer(self, asked: Sequence[Asked]) -> Sequence[Answer]:
        """Answer the independent questions of one call, which share their options, and count the calls in each one's tally.

        Returns:
            One answer per question, in order.
        """
        ...

    def most_passages(self, query: str, texts: Sequence[str], options: Any) -> int | None:
        """How many of a query's passages one question can have; None if there is no limit."""
        ...

    def close(self) -> None:
        """Release everything; called once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """The description of a generator.

    Args:
        name: Its unique name, which ``generator=`` takes.
        summary: One line for ``rerank explain``.
        claim: Says whether it should run a model with these options; the highest claim wins.
        options: The class of its own options, a subclass of `rerank.Options`; importing it must import nothing heavy.
        load: Loads a model; heavy imports belong inside. Returns a `Writer` or `RemoteWriter`, which is prompted with the
            recipe, or an `Answerer`.
        describe: Takes a model and the options and returns lines for ``rerank explain`` that say how an `Answerer` asks; None
            for what is prompted with the recipe.
    """

    name: str
    summary: str
    claim: Callable[[ModelRef, Any], Claim]
    options: type[Options]
    load: Callable[[ModelRef, Any], Writer | RemoteWriter | Answerer]
    describe: Callable[[ModelRef, Any], Iterable[str]] | None = None
