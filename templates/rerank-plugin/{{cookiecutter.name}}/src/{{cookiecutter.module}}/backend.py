"""The backend ``{{ cookiecutter.backend }}``: what it runs, and how a model is loaded. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Iterator

from rerank import Alias, Backend, Claim, Confidence, ModelRef, Scorer, hookimpl
from {{ cookiecutter.module }}.options import {{ cookiecutter.backend.title().replace('-', '') }}Options

MODEL = "{{ cookiecutter.backend }}-default"


def claim(model: ModelRef) -> Claim:
    """Claim a model by its name first, then by ``model.config`` and ``model.files``."""
    if model.name == MODEL:
        return Claim(Confidence.CERTAIN, "the only model of this backend")
    return Claim(Confidence.NONE, f"runs only {MODEL!r}")


def load(model: ModelRef, options: {{ cookiecutter.backend.title().replace('-', '') }}Options) -> Scorer:
    """Load the model; heavy libraries are imported here."""
    from {{ cookiecutter.module }}.scorer import WordScorer

    return WordScorer()


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the backend."""
    yield Backend(
        name="{{ cookiecutter.backend }}",
        summary="{{ cookiecutter.summary }}",
        load=load,
        claim=claim,
        options={{ cookiecutter.backend.title().replace('-', '') }}Options,
        aliases={"{{ cookiecutter.backend }}": {"en": Alias(MODEL)}},
    )
