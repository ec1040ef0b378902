"""A checkpoint in a folder, and the cache of its vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))  # where vector_models.py lies

from vector_models import WIDTH

from rerank import ModelRef
from rerank_vectors import DocumentCache, VectorOptions


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_bytes(b"0123")
    return folder


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder that ``open_cache`` opens."""
    return tmp_path / "kept"


@pytest.fixture
def open_cache(kept: Path, checkpoint: Path) -> Callable[..., DocumentCache]:
    """Opens the cache of the checkpoint: ``open_cache(vectors="memory", recipe={…}, vectors_dtype="int8")``."""

    def opened(
        recipe: dict[str, Any] | None = None, model: Path | None = None, dimensions: int = WIDTH, **options: Any
    ) -> DocumentCache:
        given = VectorOptions.model_validate({"vectors": kept, **options})
        return DocumentCache(given, ModelRef(str(model or checkpoint)), recipe or {}, dimensions)

    return opened
