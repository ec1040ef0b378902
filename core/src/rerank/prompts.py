"""The prompts that a checkpoint saves with its settings, to be read before every query or document."""

from __future__ import annotations

from typing import Literal

from rerank.errors import ModelLoadError
from rerank.model_ref import ModelRef

_SETTINGS_FILE = "config_sentence_transformers.json"


def saved_prompt(model: ModelRef, role: Literal["query", "document"] | None = None) -> str:
    """The text that sentence-transformers puts before a text, joined as it stands; empty if the checkpoint saved none.

    A cross-encoder puts the one of ``prompts`` that ``default_prompt_name`` names before every query. An encoder of
    single texts looks for the text's role among ``prompts`` instead (sentence-transformers 5 and later). Both do so only
    beside a ``modules.json``, and the cross-encoder only where the settings are a cross-encoder's own.

    Args:
        model: Where the checkpoint is.
        role: The text's role, for an encoder of single texts; None is a cross-encoder's query.

    Raises:
        ModelLoadError: The file cannot be read, names a prompt that it lacks, or has one that is no text.
    """
    settings = model.read_json(_SETTINGS_FILE) if {_SETTINGS_FILE, "modules.json"} <= model.files else {}
    if role is None and settings.get("model_type") != "CrossEncoder":
        return ""
    name, prompts = role or settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict):
        raise ModelLoadError(f"prompts in {_SETTINGS_FILE} of {model.name} is no object: fetch the checkpoint again")
    if not isinstance(name, str) or (role is None and name not in prompts):
        raise ModelLoadError(
            f"{_SETTINGS_FILE} of {model.name} has no prompt {name!r}, its default_prompt_name: fetch the checkpoint again"
        )
    prompt = prompts.get(name) or ""
    if not isinstance(prompt, str):
        raise ModelLoadError(
            f"the prompt {name!r} in {_SETTINGS_FILE} of {model.name} is {prompt!r:.40}, no text: fetch the checkpoint again"
        )
    return prompt
