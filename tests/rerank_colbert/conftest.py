"""Where the checkpoints are built, and our own scores on them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rerank import Reranker  # noqa: E402

sys.path.append(str(Path(__file__).parent))  # where checkpoints.py lies

torch.set_num_threads(1)  # models this small only wait for each other's threads


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """torch's and transformers' own deprecations are theirs; ours stay errors."""
    for item in items:
        if "rerank_colbert" in str(item.path):
            for said in ("ignore::FutureWarning:transformers", "ignore::DeprecationWarning:torch"):
                item.add_marker(pytest.mark.filterwarnings(said))


@pytest.fixture(scope="session")
def ours() -> Callable[..., list[list[float]]]:
    """``ours(folder, queries, texts)``: per query the scores of the backend that claims the folder, in the order of texts."""

    def rank(folder: Path, queries: Sequence[str], texts: Sequence[str], **options: Any) -> list[list[float]]:
        with Reranker(folder, device="cpu", dtype="fp32") as reranker:
            assert reranker.backend == "colbert"
            rankings = [reranker.rank(query, texts, **options) for query in queries]
        assert {ranked.scale for ranked in rankings} == {"similarity"}
        return [[result.score for result in sorted(ranked, key=lambda result: result.index)] for ranked in rankings]

    return rank


@pytest.fixture(scope="session")
def same() -> Callable[..., None]:
    """``same(scores, expected)``: every score is the one expected, within 1e-4."""

    def check(scores: list[list[float]], expected: list[list[float]]) -> None:
        for own, theirs in zip(scores, expected, strict=True):
            assert own == pytest.approx(theirs, abs=1e-4)

    return check
