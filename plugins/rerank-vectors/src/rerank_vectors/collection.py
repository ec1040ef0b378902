"""What a document's vectors depend on besides its text: the model's files, and how they are used."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

from rerank import ModelRef

FORMAT: Final = 1
"""Of entries and their keys; another number begins new collections."""


def describe(model: ModelRef, recipe: Mapping[str, Any], dimensions: int, dtype: str) -> dict[str, Any]:
    """What the vectors of a collection come from, as plain data.

    Args:
        model: The model.
        recipe: Whatever changes a document's vectors besides the model's files.
        dimensions: Of every vector.
        dtype: How vectors are kept.
    """
    local = model.is_local or model.gguf_file is not None
    return {
        "model": str(Path(model.name).expanduser().resolve()) if local else model.name,
        "revision": None if local else model.revision,
        "checkpoint": _fingerprint(model),
        "recipe": recipe,
        "dimensions": dimensions,
        "dtype": dtype,
        "format": FORMAT,
    }


def digest(data: Any) -> bytes:
    """16 bytes that differ where plain data differs."""
    return hashlib.blake2b(canonical(data), digest_size=16).digest()


def is_collection(name: str) -> bool:
    """Whether a folder is a collection's, by its name: the digest of what `describe` says, in hexadecimal."""
    return re.fullmatch("[0-9a-f]{32}", name) is not None


def canonical(data: Any) -> bytes:
    """Plain data as JSON that is the same for equal data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _fingerprint(model: ModelRef) -> Any:
    """What changes with the checkpoint: the commit on the hub, or names, sizes and times of local files."""
    if model.gguf_file is not None:
        return [_status(model.gguf_file)]
    if model.is_local:
        folder = Path(model.name).expanduser()
        # vectors may be kept in the checkpoint's own folder
        own = [file for file in sorted(model.files) if not is_collection(PurePosixPath(file).parent.name)]
        return [[file, *_status(folder / file)] for file in own]
    file = model.fetch("config.json" if "config.json" in model.files else min(model.files))
    commits = (folder.name for folder in file.parents if folder.parent.name == "snapshots")  # innermost first
    return next(commits, None) or _status(file)


def _status(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]  # tools that copy set the second, none the third
