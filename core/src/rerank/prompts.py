"""The prompt that a checkpoint saves with its settings, to be read before every query."""

from __future__ import annotations

from rerank.errors import ModelLoadError
from rerank.model_ref import ModelRef

_SETTINGS_FILE = "config_sentence_transformers.json"


def saved_prompt(model: ModelRef) -> str:
    """The text that a cross-encoder of sentence-transformers puts before every query; empty if it saved none.

    It is the one of ``prompts`` that ``default_prompt_name`` names (sentence-transformers 5 and later, which joins it
    with the query as it stands).

    Raises:
        ModelLoadError: The file cannot be read, or names a prompt that it lacks.
    """
    settings = model.read_json(_SETTINGS_FILE) if _SETTINGS_FILE in model.files else {}
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise ModelLoadError(
            f"{_SETTINGS_FILE} of {model.name} has no prompt {name!r}, its default_prompt_name: fetch the checkpoint again"
        )
    return str(prompts[name])
