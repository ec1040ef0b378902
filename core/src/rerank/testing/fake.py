"""A backend without a model, for tests of the code around one."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from pydantic import ValidationInfo, field_validator

from rerank import (
    Backend,
    Claim,
    Confidence,
    ModelRef,
    Options,
    Registry,
    Reload,
    Request,
    Scorer,
    Scores,
    ScoreScale,
)


class FakeOptions(Options):
    """Core's options and two of the fake's, of which one is fixed when the model loads.

    Args:
        weight: Factor of every score.
        scale: The scale of the scores.
    """

    weight: float = 1.0
    scale: Reload[ScoreScale] = "logit"

    @field_validator("long_documents", "window", "overlap", "aggregate")
    @classmethod
    def _has_no_windows(cls, given: Any, field: ValidationInfo) -> Any:
        if given != cls.model_fields[field.field_name or ""].default:
            raise ValueError("documents are read whole: leave it out")
        return given


class FakeScorer:
    """Scores a document by the share of the query's words that it contains; counts its calls."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def score(self, request: Request) -> Scores:
        """The share of shared words, times ``weight``."""
        self.requests.append(request)
        options = request.options
        weight = options.weight if isinstance(options, FakeOptions) else 1.0
        wanted = _words(request.query)
        shares = [len(wanted & _words(document.text)) / max(1, len(wanted)) for document in request.documents]
        return Scores(
            values=[weight * share for share in shares],
            scale=options.scale if isinstance(options, FakeOptions) else "logit",
        )


def fake_backend(name: str = "fake", **fields: Any) -> Backend:
    """A backend that claims the model ``fake`` and loads a `FakeScorer`.

    Args:
        name: The backend's name, and the only model that it claims.
        fields: Fields of `Backend` that replace the fake's.
    """
    own: dict[str, Any] = {
        "name": name,
        "summary": "counts shared words; for tests",
        "load": load_fake,
        "claim": partial(claim_fake, name),
        "options": FakeOptions,
    }
    return Backend(**{**own, **fields})


def fake_registry(*backends: Backend) -> Registry:
    """A registry with only these backends, by default one `fake_backend`."""
    registry = Registry()
    for backend in backends or (fake_backend(),):
        registry.register(backend)
    return registry


def claim_fake(name: str, model: ModelRef) -> Claim:
    """`Backend.claim` of the fake called ``name``."""
    return Claim(Confidence.CERTAIN if model.name == name else Confidence.NONE, "by name")


def load_fake(model: object, options: object) -> Scorer:
    """`Backend.load` of the fake."""
    return FakeScorer()


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
