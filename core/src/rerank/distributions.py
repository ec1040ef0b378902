"""What to install if a backend is missing: the only place where core names plugins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from rerank.plugin import Plugin

DISTRIBUTIONS: Final = {
    "cross-encoder": "rerank-crossencoder",
    "onnx": "rerank-onnx",
    "nano": "rerank-nano",
    "api": "rerank-api",
    "colbert": "rerank-colbert",
    **dict.fromkeys(("llm-listwise", "llm-filter"), "rerank-listwise"),
    **dict.fromkeys(("t5", "llm-pointwise", "llm-layerwise", "llm-lightweight"), "rerank-llm"),
}
"""The distribution of each of this project's backends; a new one is added with its first release."""

_ARCHITECTURES: Final = {
    "ForSequenceClassification": "rerank-crossencoder",
    "ForCausalLM": "rerank-llm",
    "ForConditionalGeneration": "rerank-llm",
    "EncoderModel": "rerank-llm",
    "HF_ColBERT": "rerank-colbert",
}
"""How the architectures that a distribution runs end."""

DEFAULT_MODEL: Final = "nano"
"""The model that `rerank.Reranker` runs if none is named, and the name of its backend."""

REMOTE_BACKEND: Final = "api"
"""The backend to install for ``api_provider=`` if no installed backend is remote."""

_REMEDIES: Final = {
    "disabled": "change that variable",
    "failed": "fix that, or uninstall it",
}


def how_to_get(backend: str, plugins: Sequence[Plugin]) -> str:
    """The next step to get one of this project's backends, given the state of its distribution.

    Args:
        backend: A name in `DISTRIBUTIONS`.
        plugins: Every installed plugin.
    """
    distribution = DISTRIBUTIONS[backend]
    plugin = next((plugin for plugin in plugins if plugin.distribution == distribution), None)
    if plugin is None:
        return f"pip install {distribution}"
    if plugin.status == "ok":
        return f"{distribution} {plugin.version} does not have it yet: pip install --upgrade {distribution}"
    return f"{distribution} is installed but {plugin.status} ({plugin.reason}): {_REMEDIES[plugin.status]}"


def what_runs(files: Collection[str], architectures: Collection[str]) -> set[str]:
    """The distributions that may run a checkpoint.

    Args:
        files: Paths of its files.
        architectures: Those that its ``config.json`` names.

    Returns:
        Nothing if it holds no model that any of this project's backends reads.
    """
    may_run = set()
    if any(file.lower().endswith(".onnx") for file in files):
        may_run.add("rerank-onnx")
    if any(file.lower().endswith(".gguf") for file in files):
        may_run.add("rerank-llm")
    if any(file.endswith((".safetensors", ".bin")) for file in files):
        for suffix, distribution in _ARCHITECTURES.items():
            may_run |= {distribution for architecture in architectures if architecture.endswith(suffix)}
        if "config.json" in files:
            may_run = may_run or {"rerank-colbert"}
    return may_run


def what_to_install(
    backends: Collection[str], plugins: Sequence[Plugin], may_run: Collection[str] = frozenset(DISTRIBUTIONS.values())
) -> str:
    """The next step if no backend runs a model: distributions to install, enable or fix.

    Args:
        backends: The names of the backends in use.
        plugins: Every installed plugin.
        may_run: The distributions that may run the model, as far as that is known.
    """
    installed = {plugin.distribution for plugin in plugins}
    missing: dict[str, list[str]] = {}
    for backend, distribution in DISTRIBUTIONS.items():
        if backend not in backends and distribution in may_run and distribution not in installed:
            missing.setdefault(distribution, []).append(backend)
    steps = []
    if missing:
        named = (f"{distribution} ({', '.join(own)})" for distribution, own in missing.items())
        steps.append(f"pip install {'one of ' if len(missing) > 1 else ''}{', '.join(named)}")
    if disabled := dict.fromkeys(plugin.distribution for plugin in plugins if plugin.status == "disabled"):
        steps.append(f"change RERANK_DISABLE_PLUGINS, which disables {', '.join(disabled)}")
    steps += [f"fix {plugin.distribution} ({plugin.reason})" for plugin in plugins if plugin.status == "failed"]
    return ", or ".join(steps) or "check the model's name, or install a plugin that knows it"
