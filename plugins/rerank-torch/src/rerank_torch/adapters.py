"""Adapters of PEFT: merged where they are asked for, and left alone where they lie beside whole weights."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from rerank import InvalidOptionsError, ModelLoadError, ModelRef
from rerank_torch.consent import check_adapter_settings

logger = logging.getLogger(__name__)

ADAPTER_CONFIG: Final = "adapter_config.json"
_ADAPTER_FILES: Final = (ADAPTER_CONFIG, "adapter_model.safetensors")


def adapter_alone(model: ModelRef) -> ModelLoadError:
    """The error for a folder that holds an adapter and no weights to apply it to."""
    base = model.read_json(ADAPTER_CONFIG).get("base_model_name_or_path")
    return ModelLoadError(
        f"{model.name} holds only an adapter, of the model {base!r}: merge it into that model and save the whole, or load "
        f"that model with peft_path={model.name!r}"
    )


@contextmanager
def without_adapter(model: ModelRef, folder: str, *, silent: bool) -> Iterator[str]:
    """A checkpoint's folder as transformers reads it alike with peft installed and without.

    With peft, transformers adds an adapter that lies beside the weights, also to weights that hold it already; without
    peft it does not. So the adapter is hidden, and the weights count as they are.

    Args:
        model: Where the checkpoint is.
        folder: Its folder on this machine.
        silent: Whether not to warn that the adapter is not applied, since another is asked for.

    Raises:
        ModelLoadError: The adapter cannot be hidden.
    """
    if not (Path(folder) / ADAPTER_CONFIG).is_file():
        yield folder
        return
    if not silent:
        logger.warning(
            "%s holds whole weights and an adapter (%s), which is not applied, since the weights may hold it already: "
            "if they do not, pass peft_path=%r",
            model.name,
            ADAPTER_CONFIG,
            model.name,
        )
    with tempfile.TemporaryDirectory() as links:
        try:
            for entry in os.scandir(folder):
                if not entry.name.startswith("adapter_"):
                    Path(links, entry.name).symlink_to(os.path.realpath(entry.path), entry.is_dir())
        except OSError as error:  # as on Windows, without the right to make links
            raise ModelLoadError(
                f"{model.name} holds an adapter beside its weights, which cannot be hidden from transformers ({error}): "
                f"move {ADAPTER_CONFIG} elsewhere"
            ) from error
        yield links


def merge_adapter(network: Any, path: str, model: ModelRef) -> Any:
    """Merge an adapter into a network.

    Args:
        network: The model that the adapter was trained on.
        path: The adapter's folder or hub name.
        model: Where the network's checkpoint is; says how the hub is reached.

    Raises:
        InvalidOptionsError: peft is not installed.
        ModelLoadError: The adapter is incomplete, was trained on another model, or has peft import a module.
    """
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise InvalidOptionsError("peft_path needs peft: pip install peft, or leave it out") from error
    adapter = replace(model, name=path, alias=None, revision=None)
    if not adapter.files >= {*_ADAPTER_FILES}:
        raise ModelLoadError(
            f"the adapter {path!r} lacks one of {', '.join(_ADAPTER_FILES)}: save it with peft's save_pretrained"
        )
    check_adapter_settings(adapter, adapter.read_json(ADAPTER_CONFIG))
    folders = [adapter.fetch(file).parent for file in _ADAPTER_FILES]
    try:
        return peft.PeftModel.from_pretrained(network, str(folders[0])).merge_and_unload().eval()
    except Exception as error:
        raise ModelLoadError(
            f"the adapter {path!r} cannot be added to {model.name} ({type(error).__name__}: {error}): give the adapter "
            "that was trained on this model"
        ) from error
