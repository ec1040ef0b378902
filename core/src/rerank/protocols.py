"""What a plugin implements: one required method, and refinements that core uses if they exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from rerank.options import Options
from rerank.results import Document, ScoreScale


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One query and its candidates.

    Args:
        query: Never empty.
        documents: Never empty.
        top_k: A hint: values must be exact for the first ``top_k``, the rest may be None.
        options: The options given at construction with this call's overrides, validated.
    """

    query: str
    documents: Sequence[Document]
    top_k: int | None = None
    options: Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A scorer's answer to one request.

    Args:
        values: One per document, in input order, higher is better, raw (never normalised); None sorts last.
        scale: What the values mean; with ``ordinal`` they only order, and results show no score.
        details: One mapping per document; becomes ``Result.details``.
        diagnostics: Becomes ``RankedResults.diagnostics``.
    """

    values: Sequence[float | None]
    scale: ScoreScale
    details: Sequence[Mapping[str, Any]] | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)


class Scorer(Protocol):
    """A loaded model. Must be safe to call from several threads at once."""

    def score(self, request: Request) -> Scores:
        """Score every document of one request."""
        ...


@runtime_checkable
class ScoresMany(Protocol):
    """A scorer that benefits from seeing several requests together."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        """Score requests lazily: one answer per request, in order. Requests may differ in size."""
        ...


@runtime_checkable
class ScoresAsync(Protocol):
    """A scorer with native asynchronous I/O; other scorers run in a worker thread."""

    async def ascore(self, request: Request) -> Scores:
        """Like `Scorer.score`, without blocking the event loop."""
        ...


@runtime_checkable
class Calibrates(Protocol):
    """A scorer whose model publishes a map from raw scores to [0, 1]."""

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        """Map raw values to [0, 1], monotonically."""
        ...


@runtime_checkable
class Closes(Protocol):
    """A scorer that holds processes, pools or memory maps."""

    def close(self) -> None:
        """Release everything; called once."""
        ...


@runtime_checkable
class ClosesAsync(Protocol):
    """A scorer whose connections belong to an event loop."""

    async def aclose(self) -> None:
        """Like `Closes.close`, from inside the event loop."""
        ...
