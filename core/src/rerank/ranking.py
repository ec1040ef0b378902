"""From a scorer's raw values to a ranking: checked, sorted on the raw score, normalised last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from rerank.errors import InvalidOptionsError, ScoringError
from rerank.protocols import Calibrates, Request, Scorer, Scores
from rerank.results import RankedResults, Result


def rank_by_score(request: Request, scores: Scores, scorer: Scorer, *, model: str, backend: str) -> RankedResults:
    """Rank a request's documents.

    Equal scores keep the candidates' order, documents without a score come last, and only the first ``top_k`` are kept.

    Raises:
        ScoringError: The scorer returned a wrong number of values, or one that is not finite.
        InvalidOptionsError: ``normalize=True`` is set, but these scores have no map to [0, 1].
    """
    values = _checked(request, scores, backend)
    scale = "probability" if request.options.normalize else scores.scale
    shown = _shown(values, scores, request, scorer, backend)
    order = sorted(range(len(values)), key=lambda i: _descending(values[i]))[: request.top_k]
    details: Sequence[Any] = scores.details or [{}] * len(values)
    return RankedResults(
        results=[
            Result(
                doc_id=request.documents[i].doc_id,
                text=request.documents[i].text,
                score=shown[i],
                rank=rank,
                index=i,
                metadata=request.documents[i].metadata,
                details=details[i],
            )
            for rank, i in enumerate(order, start=1)
        ],
        query=request.query,
        has_scores=scale != "ordinal",
        model=model,
        backend=backend,
        scale=scale,
        diagnostics=dict(scores.diagnostics),
    )


def _checked(request: Request, scores: Scores, backend: str) -> list[float | None]:
    if not hasattr(scores.values, "__getitem__") or isinstance(scores.values, (str, bytes, bytearray, Mapping)):
        raise ScoringError(
            f"backend {backend!r} returned values of type {type(scores.values).__name__}: report it to its authors, who "
            "return a sequence of numbers"
        )
    expected = len(request.documents)
    for name, given in (("values", scores.values), ("details", scores.details)):
        if given is not None and len(given) != expected:
            raise ScoringError(
                f"backend {backend!r} returned {len(given)} {name} for {expected} documents: report it to its authors"
            )
    values = [None if value is None else _as_number(value, backend) for value in scores.values]
    for document, value in zip(request.documents, values):
        if value is not None and not math.isfinite(value):
            raise ScoringError(
                f"backend {backend!r} scored document {document.doc_id!r} as {value}: "
                "try a wider dtype, or check its text"
            )
    return values


def _as_number(value: Any, backend: str) -> float:
    """A score as a float.

    Raises:
        ScoringError: It is no number, but for example its text, or a whole number that no float holds.
    """
    if isinstance(value, (bool, str, bytes)) or type(value).__name__ == "bool" or not hasattr(value, "__float__"):
        raise ScoringError(
            f"backend {backend!r} returned the score {value!r:.60} of type {type(value).__name__}: report it to its "
            "authors, who return numbers"
        )
    number = float(value)
    if isinstance(value, Integral) and int(number) != int(value):
        raise ScoringError(
            f"backend {backend!r} returned the score {value!r:.60}, which floats cannot tell from its neighbours: report it "
            "to its authors, who return smaller numbers"
        )
    return number


def _shown(
    values: list[float | None], scores: Scores, request: Request, scorer: Scorer, backend: str
) -> Sequence[float | None]:
    """The scores that the results show: None if values only order, in [0, 1] if asked for, else the raw values."""
    if not values:
        return ()
    if not request.options.normalize:
        return [None] * len(values) if scores.scale == "ordinal" else values
    present = [value for value in values if value is not None]
    if isinstance(scorer, Calibrates):
        mapped = [float(value) for value in scorer.calibrate(present, request.options)]
        if len(mapped) != len(present) or not all(map(math.isfinite, mapped)):
            raise ScoringError(
                f"backend {backend!r} mapped {len(present)} values to {len(mapped)}, or one to a number that is "
                "not finite: report it to its authors"
            )
    elif scores.scale == "logit":
        mapped = [sigmoid(value) for value in present]
    elif scores.scale == "probability":
        mapped = present
    else:
        raise InvalidOptionsError(
            f"normalize=True needs scores with a map to [0, 1], and those of backend {backend!r} are "
            f"{scores.scale}: leave it out"
        )
    shown = iter(mapped)
    return [None if value is None else next(shown) for value in values]


def sigmoid(value: float) -> float:
    """The logistic function, without overflow at either end."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return (small := math.exp(value)) / (1 + small)


def _descending(value: float | None) -> float:
    return math.inf if value is None else -value
