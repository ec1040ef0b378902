"""What a checkpoint's settings may not ask for unless its code is trusted: that other code is fetched or imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rerank import ModelLoadError, ModelRef

_IMPLEMENTATION: Final = re.compile(r"_?\w+_implementation(_internal)?")
"""``attn_implementation`` and its like: transformers fetches and runs the kernel of a hub repository that one names."""


def check_settings(model: ModelRef) -> None:
    """Refuse a configuration by which transformers would fetch and run another repository's code.

    Raises:
        ModelLoadError: It names one.
    """
    for key, value in settings_of(model.config):
        if _IMPLEMENTATION.fullmatch(key) and any("/" in name for name in _names(value)):
            raise ModelLoadError(
                f"config.json of {model.name} asks for the code of another repository, {key}={value!r:.80}: remove that, or "
                "read that code and pass trust_remote_code=True"
            )


def check_adapter_settings(adapter: ModelRef, settings: Mapping[str, Any]) -> None:
    """Refuse an adapter by which peft would import a module that it names.

    Raises:
        ModelLoadError: It names one.
    """
    if settings.get("megatron_config"):
        module = settings.get("megatron_core")
        raise ModelLoadError(
            f"the adapter {adapter.name!r} has peft import the module {module!r:.80}: remove megatron_config from its "
            "adapter_config.json, or merge the adapter yourself"
        )


def settings_of(config: Any) -> Iterator[tuple[str, Any]]:
    """Every setting, those of inner configurations too."""
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield str(key), value
            yield from settings_of(value)
    elif isinstance(config, list):
        for value in config:
            yield from settings_of(value)


def _names(value: Any) -> Iterator[str]:
    """The names in a setting: its own, or those by inner model."""
    yield from map(str, value.values()) if isinstance(value, Mapping) else [str(value)]
