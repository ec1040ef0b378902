"""Makes the modules beside the tests importable, and forgets recipes that a test's plugins add."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # where oracle.py and chat_model.py lie


@pytest.fixture(autouse=True)
def forget_recipes() -> Iterator[None]:
    """Recipes of one test's plugins are not those of the next."""
    yield
    from rerank_listwise.recipes import known

    known.cache_clear()
