"""Which backend runs a model: by a short name, by the backend that the user names, or by the backends' claims."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from rerank.backend import Alias, Backend, Confidence
from rerank.display import listed
from rerank.distributions import DISTRIBUTIONS, REMOTE_BACKEND, how_to_get, what_runs, what_to_install
from rerank.errors import AmbiguousModelError, BackendNotFoundError, InvalidOptionsError, ModelLoadError
from rerank.model_ref import ModelRef
from rerank.registry import Registry

logger = logging.getLogger(__name__)


class Choice(NamedTuple):
    """A model and the backend that runs it.

    Args:
        backend: The backend.
        model: The model, with any short name resolved.
        defaults: Options that come with short names.
    """

    backend: Backend
    model: ModelRef
    defaults: Mapping[str, Any]


def select(registry: Registry, asked: ModelRef) -> Choice:
    """Choose the backend for a model. A short name wins over a folder of the same name; ``./name`` is the folder.

    Args:
        registry: The backends to choose from.
        asked: The model as the user named it, with the requested backend and language.

    Raises:
        BackendNotFoundError, AmbiguousModelError, ModelLoadError: As for `resolve`.
        InvalidOptionsError: A short name has no model for the language.
    """
    named = asked.backend or asked.model_type
    chosen = None if named is None else registry.find(named)
    defaults: dict[str, Any] = {}
    if chosen is not None and named is not None and named in chosen.aliases:
        defaults.update(_in_language(chosen.aliases[named], named, asked.lang).options)
    for holder in candidates(registry, asked) if chosen is None else [chosen]:
        if asked.name in holder.aliases and asked.api_provider in (None, asked.name):
            alias = _in_language(holder.aliases[asked.name], asked.name, asked.lang)
            found = replace(asked, name=alias.model, alias=asked.name)
            return Choice(holder, found, {**defaults, **alias.options})
    if chosen is None and asked.api_provider is None and asked.name in DISTRIBUTIONS:
        chosen = registry.find(asked.name)
    return Choice(chosen or resolve(registry, asked), asked, defaults)


def candidates(registry: Registry, model: ModelRef) -> list[Backend]:
    """The backends that may run a model: with ``api_provider=`` only remote ones."""
    return [backend for backend in registry.backends.values() if backend.remote or model.api_provider is None]


def _in_language(models: Mapping[str, Alias], name: str, lang: str) -> Alias:
    if lang in models:
        return models[lang]
    if "other" in models:
        return models["other"]
    if "en" in models:
        logger.warning("%s has no model for lang=%r; using the English one", name, lang)
        return models["en"]
    raise InvalidOptionsError(f"{name} has no model for lang={lang!r}: choose one of {listed(models)}")


def resolve(registry: Registry, model: ModelRef) -> Backend:
    """The backend with the highest claim on a model. The hub is asked only if no backend is certain by the name.

    Raises:
        AmbiguousModelError: Several claim it equally.
        BackendNotFoundError: None claims it, or they only claim that it is possible.
        ModelLoadError: None knows the name, and its files cannot be read.
    """
    if model.api_provider is not None and not candidates(registry, model):
        raise BackendNotFoundError(
            f"no installed backend calls remote services, which api_provider={model.api_provider!r} needs: "
            f"{how_to_get(REMOTE_BACKEND, registry.plugins)}"
        )
    claims = explain(registry, model if model.is_local else _unread(model))
    if not claims or claims[0].confidence < Confidence.CERTAIN or claims[0].takes_any:
        claims = explain(registry, model)
    if claims and claims[0].confidence >= Confidence.LIKELY and not claims[0].takes_any:
        claims = [claim for claim in claims if not claim.takes_any]
    best = claims[0].confidence if claims else Confidence.NONE
    winners = [claim.backend.name for claim in claims if claim.confidence == best]
    if best >= Confidence.LIKELY:
        if len(winners) > 1:
            raise AmbiguousModelError(
                f"model {model.name!r} is claimed equally by {', '.join(winners)}: pass one of them as backend="
            )
        return claims[0].backend
    if best == Confidence.POSSIBLE:
        raise BackendNotFoundError(
            f"model {model.name!r} is not claimed by any backend, but {', '.join(winners)} could try: "
            f"pass backend= to use it, or {_next_step(registry, model)}"
        )
    for claim in claims:
        if claim.error is not None and ("/" in model.name or model.is_local):
            raise claim.error
    backends: dict[str, list[str]] = {}
    for claim in claims:
        backends.setdefault(claim.reason, []).append(claim.backend.name)
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in backends.items())
    raise BackendNotFoundError(
        f"no installed backend can run model {model.name!r} ({reasons or 'none is installed'}): "
        f"{_next_step(registry, model)}"
    )


def _next_step(registry: Registry, model: ModelRef) -> str:
    """What to do about a model that no installed backend runs: only what fits its files, as far as they can be read."""
    try:
        may_run = what_runs(model.files, [str(name) for name in model.config.get("architectures") or ()])
    except ModelLoadError:
        near = registry.nearest(model.name)
        return (
            f"did you mean {near!r}?"
            if near not in (None, model.name)
            else what_to_install(registry.backends, registry.plugins)
        )
    if "adapter_config.json" in model.files:
        return (
            "it holds only an adapter: merge it into its model and give the whole, or load its model with "
            f"peft_path={model.name!r}"
        )
    if not may_run:
        return (
            "give a checkpoint that has config.json and weights (.safetensors or .bin), or an .onnx file, "
            "or install a plugin that knows it"
        )
    return what_to_install(registry.backends, registry.plugins, may_run)


@dataclass(frozen=True, slots=True)
class BackendClaim:
    """One backend's claim on a model.

    Args:
        backend: The backend.
        confidence: How sure it is.
        reason: Why.
        error: Set if the model's files could not be read.
        takes_any: Whether it claims a model that does not exist as well: then every other claim comes first.
    """

    backend: Backend
    confidence: Confidence
    reason: str
    error: ModelLoadError | None = None
    takes_any: bool = False


def explain(registry: Registry, model: ModelRef, *, only: Backend | None = None) -> list[BackendClaim]:
    """Every backend's claim on a model, the most confident first; ``only`` limits it to one backend.

    A backend that is as sure of a model that does not exist comes after those that likely run this one.
    """
    asked = candidates(registry, model) if only is None else [only]
    claims = sorted((_claim_of(backend, model) for backend in asked), key=lambda claim: -claim.confidence)
    sure = [claim for claim in claims if claim.confidence >= Confidence.LIKELY]
    rest = claims[len(sure) :]
    return [*sorted(sure, key=lambda claim: claim.takes_any), *rest]


def takes_any(backend: Backend) -> bool:
    """Whether a backend claims a model that does not exist, so that its claims say nothing.

    It is asked about a name of the hub, a plain name, and a folder with an architecture that does not exist.
    """
    names = (_NoModel(name=_NOBODYS), _NoModel(name=_NOBODYS.replace("/", "-")))
    if any(_likely_claims(backend, model) for model in names):
        return True
    try:
        with TemporaryDirectory(prefix="rerank-") as folder:
            for file in ("model.safetensors", "tokenizer.json"):
                (Path(folder) / file).touch()
            (Path(folder) / "config.json").write_text('{"architectures": ["NobodysModel"], "model_type": "nobody"}')
            return _likely_claims(backend, ModelRef(folder))
    except OSError:  # nothing can be written here
        return False


def _likely_claims(backend: Backend, model: ModelRef) -> bool:
    try:
        return bool(Confidence(backend.claim(model)[0]) >= Confidence.LIKELY)
    except (Exception, SystemExit):
        return False


def _claim_of(backend: Backend, model: ModelRef) -> BackendClaim:
    try:
        confidence, reason = backend.claim(model)
        if confidence >= Confidence.LIKELY and takes_any(backend):
            return BackendClaim(
                backend,
                Confidence(confidence),
                f"{reason} (as it claims every model, others come first)",
                takes_any=True,
            )
        return BackendClaim(backend, Confidence(confidence), reason)
    except ModelLoadError as error:
        return BackendClaim(backend, Confidence.NONE, str(error), error)
    except (Exception, SystemExit) as error:
        logger.warning("backend %s cannot decide whether it runs %s", backend.name, model.name, exc_info=True)
        return BackendClaim(backend, Confidence.NONE, f"its claim raised {type(error).__name__}: {error}")


_NOBODYS: Final = "nobody/claims-this-reranker"


class _NoModel(ModelRef):
    """A model that does not exist, with nothing in it."""

    @property
    def files(self) -> frozenset[str]:
        return frozenset()

    @property
    def config(self) -> Mapping[str, Any]:
        return {}

    def fetch(self, file: str, *, repair: bool = False) -> Path:
        raise ModelLoadError(f"{self.name} has no file {file!r}: it does not exist")


class _UnreadModelRef(ModelRef):
    """A model of which only the name may be read."""

    @property
    def files(self) -> frozenset[str]:
        raise ModelLoadError(f"the files of {self.name} are not read while backends are asked about its name")

    def fetch(self, file: str, *, repair: bool = False) -> Path:
        raise ModelLoadError(f"the files of {self.name} are not read while backends are asked about its name")


def _unread(model: ModelRef) -> ModelRef:
    return _UnreadModelRef(**{field.name: getattr(model, field.name) for field in fields(model)})
