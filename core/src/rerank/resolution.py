"""Which backend runs a model: by a short name, by the backend that the user names, or by the backends' claims."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from rerank.backend import Alias, Backend, Claim, Confidence
from rerank.errors import AmbiguousModelError, BackendNotFoundError, InvalidOptionsError, ModelLoadError
from rerank.model_ref import ModelRef
from rerank.registry import DISTRIBUTIONS, Registry

logger = logging.getLogger(__name__)


class Choice(NamedTuple):
    """What runs a model.

    Args:
        backend: Who runs it.
        model: The model, with any short name replaced.
        defaults: Options that came with short names.
    """

    backend: Backend
    model: ModelRef
    defaults: Mapping[str, Any]


def select(registry: Registry, asked: ModelRef, backend: str | None, lang: str) -> Choice:
    """Choose what runs a model. A short name wins over a folder of that name, which ``./name`` means.

    Args:
        registry: The backends to choose from.
        asked: The model as the user named it.
        backend: A backend's name or alias, where the user gave one.
        lang: Which of a short name's models.

    Raises:
        BackendNotFoundError, AmbiguousModelError, ModelLoadError: As `resolve`.
        InvalidOptionsError: A short name has no model for the language.
    """
    if backend is None and asked.provider is not None:
        backend = "api"
    chosen = None if backend is None else registry.find(backend)
    defaults: dict[str, Any] = {}
    if chosen is not None and backend is not None and backend in chosen.aliases:
        defaults.update(_in_language(chosen.aliases[backend], backend, lang).options)
    for holder in registry.backends.values() if chosen is None else [chosen]:
        if asked.name in holder.aliases and asked.provider in (None, asked.name):
            alias = _in_language(holder.aliases[asked.name], asked.name, lang)
            found = replace(asked, name=alias.model, alias=asked.name)
            return Choice(holder, found, {**defaults, **alias.options})
    if chosen is None and asked.name in DISTRIBUTIONS:
        chosen = registry.find(asked.name)
    return Choice(chosen or resolve(registry, asked), asked, defaults)


def _in_language(models: Mapping[str, Alias], name: str, lang: str) -> Alias:
    if lang in models:
        return models[lang]
    if "other" in models:
        return models["other"]
    if "en" in models:
        logger.warning("%s has no model for lang=%r; taking the English one", name, lang)
        return models["en"]
    raise InvalidOptionsError(f"{name} has no model for lang={lang!r}: choose one of {', '.join(sorted(models))}")


def resolve(registry: Registry, model: ModelRef) -> Backend:
    """The backend with the highest claim on a model. The hub is asked only where no backend is certain by the name.

    Raises:
        AmbiguousModelError: Several claim it equally.
        BackendNotFoundError: None claims it, or only as possible.
        ModelLoadError: None knows the name, and its files cannot be read.
    """
    answers = explain(registry, model if model.is_local else _unread(model))
    if not answers or answers[0].claim.confidence < Confidence.CERTAIN:
        answers = explain(registry, model)
    best = answers[0].claim.confidence if answers else Confidence.NONE
    winners = [answer.backend.name for answer in answers if answer.claim.confidence == best]
    if best >= Confidence.LIKELY:
        if len(winners) > 1:
            raise AmbiguousModelError(
                f"model {model.name!r} is claimed equally by {', '.join(winners)}: pass backend= one of them"
            )
        return answers[0].backend
    if best == Confidence.POSSIBLE:
        raise BackendNotFoundError(
            f"model {model.name!r} is nobody's own, though {', '.join(winners)} could try: pass backend= to say so, "
            f"or {registry.to_install()}"
        )
    for answer in answers:
        if answer.error is not None and ("/" in model.name or model.is_local):
            raise answer.error
    reasons = "; ".join(f"{answer.backend.name}: {answer.claim.reason}" for answer in answers)
    raise BackendNotFoundError(
        f"no installed backend can run model {model.name!r} ({reasons or 'none is installed'}): {registry.to_install()}"
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What one backend says of a model; ``error`` where the model's files could not be read."""

    backend: Backend
    claim: Claim
    error: ModelLoadError | None = None


def explain(registry: Registry, model: ModelRef, *, only: Backend | None = None) -> list[Answer]:
    """Every backend's claim on a model, the most confident first; ``only`` asks just one."""
    asked = registry.backends.values() if only is None else [only]
    return sorted((_ask(backend, model) for backend in asked), key=lambda answer: -answer.claim.confidence)


def _ask(backend: Backend, model: ModelRef) -> Answer:
    try:
        confidence, reason = backend.resolve(model)
        return Answer(backend, Claim(Confidence(confidence), reason))
    except ModelLoadError as error:
        return Answer(backend, Claim(Confidence.NONE, str(error)), error)
    except (Exception, SystemExit) as error:
        logger.warning("backend %s cannot say whether %s is its own", backend.name, model.name, exc_info=True)
        return Answer(backend, Claim(Confidence.NONE, f"its resolve raised {type(error).__name__}: {error}"))


class _UnreadModelRef(ModelRef):
    """A model of which only the name may be looked at."""

    @property
    def files(self) -> frozenset[str]:
        raise ModelLoadError(f"the files of {self.name} are not read while its name is asked about")

    def fetch(self, file: str, *, repair: bool = False) -> Path:
        raise ModelLoadError(f"the files of {self.name} are not read while its name is asked about")


def _unread(model: ModelRef) -> ModelRef:
    return _UnreadModelRef(**{field.name: getattr(model, field.name) for field in fields(model)})
