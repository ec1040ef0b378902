"""How large a network a configuration asks for, beside the weights that there are: it is built before they are read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import torch

from rerank import ModelLoadError, ModelRef
from rerank_torch.consent import settings_of

MOST_LAYERS: Final = 64
"""Layers that a configuration may ask for, or as many as there are tensors: each layer has some of its own."""

LARGEST_WIDTH: Final = 2048
"""A width that a configuration may ask for, or that of the longest side of all tensors."""

_LAYERS: Final = re.compile(r"layers?$|blocks?$|_layer_")
_WIDTH: Final = re.compile(r"(^|_)(size|dim|d_model|d_ff|d_kv|n_embd|n_inner|labels|heads?|experts|channels|rank)$")
_POSITIONS: Final = re.compile(r"position_embeddings$|n_positions$|n_ctx$|max_.*_positions$")
_TABLE: Final = re.compile(r"(position_embeddings|embed_positions|wpe)\.weight$")
_HEADER: Final = 8
"""Bytes at the start of a safetensors file that say how long its header is."""


def check_labels(model: ModelRef) -> None:
    """Refuse a configuration with more labels than any width may be: transformers names each when it reads them.

    Raises:
        ModelLoadError: It has more than `LARGEST_WIDTH`.
    """
    for key, value in settings_of(model.config):
        if key == "num_labels" and isinstance(value, int) and value > LARGEST_WIDTH:
            raise ModelLoadError(
                f"config.json of {model.name} says num_labels={value}, and a reranker has one or two: use the config.json that "
                "belongs to the weights"
            )


def check_sizes(model: ModelRef, files: Sequence[str]) -> None:
    """Refuse a configuration whose network is far larger than the weights that belong to it.

    Args:
        model: Where the checkpoint is.
        files: Those of its weights.

    Raises:
        ModelLoadError: It asks for more layers than there are tensors, for a larger width than any of them has, or for more
            positions than their table.
    """
    shapes: dict[str, list[int]] = {}
    for file in files:
        try:
            shapes |= _read_shapes(model.fetch(file))
        except Exception:  # damaged, which loading it reports
            return
    longest = max((side for shape in shapes.values() for side in shape), default=0)
    tables = [shape[0] for name, shape in shapes.items() if _TABLE.search(name) and shape]
    for key, value in settings_of(model.config):
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        if _LAYERS.search(key):
            most = max(len(shapes), MOST_LAYERS)
        elif _WIDTH.search(key):
            most = max(longest, LARGEST_WIDTH)
        elif _POSITIONS.search(key) and tables:
            most = max(*tables, LARGEST_WIDTH)
        else:
            continue
        if value > most:
            raise ModelLoadError(
                f"config.json of {model.name} says {key}={value}, and its weights have {len(shapes)} tensors of sides up to "
                f"{longest}: use the config.json that belongs to the weights"
            )


def _read_shapes(path: Path) -> Mapping[str, list[int]]:
    """The shapes of the tensors in a file, by name."""
    if path.suffix == ".safetensors":
        with path.open("rb") as opened:
            size = int.from_bytes(opened.read(_HEADER), "little")
            header = json.loads(opened.read(min(size, path.stat().st_size)))
        return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    pickled: Any = torch.load(path, map_location="meta", weights_only=True, mmap=is_zipfile(path))
    return {name: list(value.shape) for name, value in pickled.items() if isinstance(value, torch.Tensor)}
