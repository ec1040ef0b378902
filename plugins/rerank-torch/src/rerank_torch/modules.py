"""``modules.json``: the folders of a sentence-transformers checkpoint, read without that library and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rerank import ModelLoadError, ModelRef

MODULES_FILE: Final = "modules.json"


@dataclass(frozen=True, slots=True)
class Module:
    """One module of a checkpoint.

    Args:
        kind: The name of its class, such as ``Transformer``, ``Pooling``, ``Dense``, ``LayerNorm`` or ``LogitScore``.
        path: Its folder inside the checkpoint; empty for the checkpoint's own.
        config: Its ``config.json``; for a Transformer its ``sentence_bert_config.json``.
    """

    kind: str
    path: str
    config: Mapping[str, Any]


def read_modules(model: ModelRef) -> Sequence[Module]:
    """The modules of a checkpoint in the order in which they run; none if it has no ``modules.json``.

    Raises:
        ModelLoadError: A file cannot be fetched, or does not list modules.
    """
    if MODULES_FILE not in model.files:
        return ()
    try:
        listed = json.loads(model.fetch(MODULES_FILE).read_text(encoding="utf-8"))
        places = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in listed]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelLoadError(
            f"{MODULES_FILE} of {model.name} does not list modules ({error}): fetch the checkpoint again"
        ) from error
    return [Module(kind, path, _read_config(model, kind, path)) for kind, path in places]


def read_head(model: ModelRef) -> Sequence[Module]:
    """The modules of a checkpoint whose head lies in module folders; none where its head is of transformers.

    sentence-transformers lists the modules of ordinary models too: then a Transformer alone, or one whose architecture
    has the head.

    Raises:
        ModelLoadError: As `read_modules`.
    """
    if any("For" in str(name) for name in model.config.get("architectures") or ()):
        return ()
    modules = read_modules(model)
    return modules if len(modules) > 1 else ()


def _read_config(model: ModelRef, kind: str, path: str) -> Mapping[str, Any]:
    name = "sentence_bert_config.json" if kind == "Transformer" else "config.json"
    file = f"{path}/{name}" if path else name
    return model.read_json(file) if file in model.files else {}
