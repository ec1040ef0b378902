"""The contract kit against the loopback server: through the SDK, through httpx, and split by a server's limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_ranking import score
from loopback import Loopback

from rerank import Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst

BETTER = best_and_worst(QUERY, DOCUMENTS, [score(QUERY, text) for text in DOCUMENTS])


class TestCohere(BackendContract):
    better = BETTER

    @pytest.fixture
    def reranker(self, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reranker]:
        monkeypatch.setenv("COHERE_API_KEY", "key-1234")
        with Reranker("cohere", url=server.url) as reranker:
            yield reranker


class TestJina(BackendContract):
    better = BETTER

    @pytest.fixture
    def reranker(self, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reranker]:
        monkeypatch.setenv("JINA_API_KEY", "key-1234")
        with Reranker("my-model", api_provider="jina", url=server.url) as reranker:
            yield reranker


class TestTei(BackendContract):
    better = BETTER

    @pytest.fixture
    def reranker(self, server: Loopback) -> Iterator[Reranker]:
        with Reranker("tei", url=server.url) as reranker:
            yield reranker
