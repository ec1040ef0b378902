"""The contract kit for both backends, with a chat model on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loopback import Hit, Loopback, Response

from rerank import Reranker
from rerank.testing.contract import OTHER_QUERY, QUERY, BackendContract


def by_length(hit: Hit) -> Response:
    """A model that prefers long texts, and finds those with an even length relevant, but odd ones for the other query."""
    from chat_model import passages_in, reply

    passages = passages_in(hit.body)
    asked = hit.body["messages"][-1]["content"]
    if "verdicts" in asked:
        wanted = int(OTHER_QUERY in asked)
        rows = ", ".join(
            f'{{"passage": {name}, "explanation": "", "relevant": {str(len(text) % 2 == wanted).lower()}}}'
            for name, text in passages.items()
        )
        return Response(reply(f'{{"verdicts": [{rows}]}}'))
    order = sorted(passages, key=lambda name: (-len(passages[name]), passages[name]))
    return Response(reply(" > ".join(f"[{name}]" for name in order)))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = Loopback(by_length, keep_hits=False)
    yield f"{server.url}/v1"
    server.close()


class TestListwise(BackendContract):
    better = (QUERY, "Bees dance for each other.", "Shares rose.")
    batch_invariant = False

    @pytest.fixture
    def reranker(self, endpoint: str) -> Iterator[Reranker]:
        with Reranker("judge", backend="llm-listwise", base_url=endpoint) as reranker:
            yield reranker


class TestFilter(BackendContract):
    better = (QUERY, "Bees dance in circles.", "Shares rose in March.")

    @pytest.fixture
    def reranker(self, endpoint: str) -> Iterator[Reranker]:
        with Reranker("judge", backend="llm-filter", base_url=endpoint) as reranker:
            yield reranker
