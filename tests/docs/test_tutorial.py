"""What the tutorial's backend refuses, which its page only shows as code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rerank import InvalidOptionsError, Reranker
from rerank.testing.fake import fake_registry

PAGE = Path(__file__).parents[2] / "docs" / "writing-a-plugin.md"


@pytest.fixture
def module() -> dict[str, Any]:
    """The names of ``rerank_ngram.py``, as the page has it."""
    found = re.search(
        r"```python\n# file: rerank_ngram\.py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    names: dict[str, Any] = {"__name__": "rerank_ngram"}
    exec(compile(found[1], "rerank_ngram.py", "exec"), names)
    return names


@pytest.mark.parametrize(
    "option",
    [
        {"long_documents": "chunk"},
        {"window": 64},
        {"overlap": 8},
        {"aggregate": "mean"},
        {"aggregate": "first", "window": 3},
    ],
    ids=str,
)
def test_options_without_effect_are_refused(module: dict[str, Any], option: dict[str, Any]) -> None:
    registry = fake_registry(*module["rerank_register_backends"]())
    with pytest.raises(InvalidOptionsError, match=f"'{min(option)}': .*documents are read whole: leave it out"):
        Reranker("ngram", registry=registry, **option)
    with Reranker("ngram", registry=registry) as reranker, pytest.raises(InvalidOptionsError, match="read whole"):
        reranker.rank("q", ["d"], **option)


def test_options_with_effect_are_taken(module: dict[str, Any]) -> None:
    registry = fake_registry(*module["rerank_register_backends"]())
    with Reranker("ngram", registry=registry, n=2, batch_size=4, overlap=32) as reranker:
        assert reranker.rank("bees", ["shares", "bees"], top_k=1)[0].text == "bees"
