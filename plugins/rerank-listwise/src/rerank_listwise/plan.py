"""A call's options as an algorithm, and what comes of it as scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from rerank import InvalidOptionsError, MalformedRankingError, Request, Scores, ScoreScale
from rerank_listwise import listwise, pairwise, setwise
from rerank_listwise.questions import Kind, Tally
from rerank_listwise.recipe import AlgorithmName
from rerank_listwise.rounds import Algorithm

Planned: TypeAlias = AlgorithmName | Literal["judge"]
"""An algorithm of ``llm-listwise``, or what ``llm-filter`` does."""

Outcome: TypeAlias = list[int] | dict[int, float] | dict[int, tuple[float, Mapping[str, Any]]]
"""An order, best first; a score per passage; or a score and details per passage."""

ASKS: Final[Mapping[Planned, Kind]] = {
    "sliding-window": "order",
    "top-down": "order",
    "tournament": "select",
    "setwise-heapsort": "best",
    "setwise-insertion": "best",
    "pairwise-all-pairs": "compare",
    "pairwise-heapsort": "compare",
    "pairwise-bubble": "compare",
    "groups": "grade",
    "one-pass": "grade",
    "judge": "judge",
}
"""The kind of question that each algorithm asks."""


def question_size(algorithm: Planned, count: int, *, window_size: int, children: int) -> int:
    """How many of ``count`` passages the largest question of an algorithm shows."""
    if ASKS[algorithm] == "best":
        return children + 1
    if ASKS[algorithm] == "compare":
        return 2
    return count if algorithm == "one-pass" else window_size


_SETTLED: Final = 10
"""How many places the sorts settle if neither the options nor the call say (both papers)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the passages of one request are asked about.

    Args:
        algorithm: The algorithm's name.
        window_size: Passages per window at most.
        stride: How many places each sliding window is nearer the top than the one before it.
        children: Children per node of a heap.
    """

    algorithm: Planned
    window_size: int
    stride: int
    children: int

    def start(self, count: int, request: Request) -> Algorithm[Outcome]:
        """The algorithm over the first ``count`` candidates of a request.

        Raises:
            InvalidOptionsError: The windows are too small for it.
        """
        candidates = range(count)
        options: Any = request.options
        if self.algorithm == "judge":
            return listwise.judge_groups(candidates, size=self.window_size)
        top = options.top or request.top_k or _SETTLED
        if self.algorithm == "sliding-window":
            return listwise.sliding_window(candidates, size=self.window_size, stride=self.stride, passes=options.passes)
        if self.algorithm == "top-down":
            pivot = options.pivot or max(1, 2 * self.window_size // 5)
            if self.window_size < 3 or pivot >= self.window_size:
                raise InvalidOptionsError(
                    f"a window of {self.window_size} is too small for top-down with pivot {pivot}: "
                    "raise window_size, lower max_passage_tokens, or choose algorithm='sliding-window'"
                )
            return listwise.top_down(candidates, size=self.window_size, pivot=pivot, arrangements=options.arrangements)
        if self.algorithm == "tournament":
            return listwise.tournament(candidates, size=self.window_size, runs=options.tournaments, seed=options.seed)
        if self.algorithm == "groups":
            return listwise.grade_groups(candidates, size=self.window_size, epochs=options.epochs, seed=options.seed)
        if self.algorithm == "one-pass":
            return listwise.one_pass(candidates)
        if self.algorithm == "setwise-heapsort":
            return setwise.heapsort(candidates, children=self.children, top=top)
        if self.algorithm == "setwise-insertion":
            return setwise.insertion(candidates, children=self.children, top=top)
        if self.algorithm == "pairwise-all-pairs":
            return pairwise.all_pairs(candidates)
        if self.algorithm == "pairwise-heapsort":
            return pairwise.heapsort(candidates, top=top)
        return pairwise.bubble(candidates, top=top)


def as_scores(outcome: Outcome, request: Request, scale: ScoreScale, tally: Tally, **more: Any) -> Scores:
    """An algorithm's outcome as the scores of all of a request's documents.

    Args:
        outcome: The outcome.
        request: The request.
        scale: What the scores mean.
        tally: What it cost.
        more: Shown in the diagnostics.

    Raises:
        MalformedRankingError: No answer named a passage, so that nothing was ranked.
    """
    unreadable = tally.malformed.get("unreadable", 0)
    if tally.calls and unreadable >= tally.calls:
        raise MalformedRankingError(
            f"none of the model's {tally.calls} answers names a passage, so that nothing is ranked: take a model that "
            "follows the prompt, or another recipe="
        )
    values: list[float | None] = [None] * len(request.documents)
    details: list[Mapping[str, Any]] = [{}] * len(request.documents)
    if isinstance(outcome, list):
        for rank, passage in enumerate(outcome):
            values[passage] = float(-rank)
    else:
        for passage, found in outcome.items():
            values[passage], details[passage] = found if isinstance(found, tuple) else (found, {})
    diagnostics: dict[str, Any] = {
        **more,
        "calls": tally.calls,
        "rounds": tally.rounds,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
        "malformed": dict(tally.malformed),
        **tally.notes,
    }
    return Scores(values=values, scale=scale, details=details, diagnostics=diagnostics)
