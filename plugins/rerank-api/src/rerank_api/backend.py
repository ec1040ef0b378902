"""The backend ``api``: a short name for every provider, and models of one with ``api_provider=``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rerank import Alias, Backend, Claim, Confidence, ModelRef, Registry, Scorer, hookimpl
from rerank_api import hookspecs
from rerank_api.keys import described
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider
from rerank_api.providers import OWN, find, known


def aliases(providers: Iterable[Provider]) -> Mapping[str, Mapping[str, Alias]]:
    """Every provider's names, each with its default models; a self-hosted server's model has the provider's name."""
    return {
        name: {
            lang: Alias(model, {"provider": provider.name})
            for lang, model in (provider.models or {"other": provider.name}).items()
        }
        for provider in providers
        for name in provider.names
    }


def claim(model: ModelRef) -> Claim:
    """Claim every model with ``api_provider=``, and the names of providers; never a model by its own name."""
    if model.api_provider is not None:
        return Claim(Confidence.CERTAIN, f"api_provider={model.api_provider!r} was given")
    if (name := model.alias or model.name) in known():
        return Claim(Confidence.CERTAIN, f"the name of the provider {known()[name].name}")
    return Claim(Confidence.NONE, "not the name of a provider; a model behind an API needs api_provider=")


def load(model: ModelRef, options: ApiOptions) -> Scorer:
    """A scorer that calls the provider.

    Raises:
        BackendNotFoundError: There is no such provider.
        AuthenticationError: The provider needs a key and there is none.
        InvalidOptionsError: The provider has no address, or does not support an option.
    """
    from rerank_api.scorer import ApiScorer

    provider = find(options.provider or model.api_provider or model.name)
    name = provider.models.get("en", provider.models.get("other")) if model.name in provider.names else model.name
    return ApiScorer(provider, name, options)


def notes() -> Iterator[str]:
    """The providers, and whether a key of each is set."""
    for provider in dict.fromkeys(known().values()):
        yield described(provider)


@hookimpl
def rerank_add_hooks(registry: Registry) -> None:
    """Let other plugins register providers."""
    registry.add_hooks(hookspecs)


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the one backend of this distribution."""
    yield Backend(
        name="api",
        summary="hosted and self-hosted rerank services",
        load=load,
        claim=claim,
        options=ApiOptions,
        aliases=aliases(OWN),
        remote=True,
        notes=notes,
    )
