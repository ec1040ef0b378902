"""The cache sends equal requests once, keys on everything that changes a response, and keeps its file small."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback

from rerank import InvalidOptionsError, Reranker

DOCUMENTS = ["one", "two", "three"]


def make(server: Loopback, file: Path, provider: str = "jina", model: str = "m", **options: Any) -> Reranker:
    return Reranker(model, api_provider=provider, url=server.url, cache=file, **{"api_key": "key-1234", **options})


@pytest.mark.parametrize("provider", ["jina", "cohere"])
def test_equal_requests_are_sent_once(server: Loopback, tmp_path: Path, provider: str) -> None:
    for key in ("key-1234", "key-5678"):  # another key, another process
        with make(server, tmp_path / "answers", provider, api_key=key) as reranker:
            first = reranker.rank("q", DOCUMENTS)
            again = reranker.rank("q", DOCUMENTS)
            assert again.results == first.results
            assert again.diagnostics["cached"] == 1
            assert again.diagnostics["requests"] == 0
            assert again.diagnostics["usage"] == {}
    assert server.count == 1


def test_everything_that_changes_the_answer_counts(server: Loopback, tmp_path: Path) -> None:
    file = tmp_path / "answers"
    calls: list[tuple[dict[str, Any], tuple[str, list[str]], dict[str, Any]]] = [
        ({}, ("q", DOCUMENTS), {}),
        ({}, ("other", DOCUMENTS), {}),
        ({}, ("q", DOCUMENTS[::-1]), {}),
        ({}, ("q", DOCUMENTS[:2]), {}),
        ({}, ("q", DOCUMENTS), {"top_k": 2}),
        ({}, ("q", DOCUMENTS), {"extra_body": {"x": 1}}),
        ({"model": "other"}, ("q", DOCUMENTS), {}),
        ({"provider": "together"}, ("q", DOCUMENTS), {}),
        ({"headers": {"X-Tenant": "a"}}, ("q", DOCUMENTS), {}),
        ({"headers": {"X-Tenant": "b"}}, ("q", DOCUMENTS), {}),
        ({"url": server.url + "/eu"}, ("q", DOCUMENTS), {}),
    ]
    for count, (options, (query, documents), overrides) in enumerate(calls, start=1):
        for _ in range(2):
            with Reranker(
                options.get("model", "m"),
                **{
                    "api_provider": options.get("provider", "jina"),
                    "url": server.url,
                    "api_key": "key-1234",
                    "cache": file,
                    **{k: v for k, v in options.items() if k not in ("model", "provider")},
                },
            ) as reranker:
                reranker.rank(query, documents, **overrides)
            assert server.count == count


def test_a_file_that_is_not_a_cache_is_reported(server: Loopback, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database at all, " * 100)
    with pytest.raises(InvalidOptionsError, match=r"notes\.txt"):
        make(server, file)
    assert file.read_text().startswith("not a database")


def test_a_damaged_file_costs_its_answers_only(
    server: Loopback, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "answers"
    with make(server, file) as reranker:
        reranker.rank("q", DOCUMENTS)
        with closing(sqlite3.connect(file)) as other:
            other.execute("DROP TABLE responses")
        with caplog.at_level(logging.WARNING):
            assert len(reranker.rank("q2", DOCUMENTS)) == 3
    assert "cannot be read: no such table" in caplog.text
    assert "cannot be written: no such table" in caplog.text


@pytest.mark.parametrize("kept", ["oops", '["a", "b", "c"]', "[NaN, 0.5, 0.5]", "[true, 0.5, 0.5]", "{}"])
def test_a_damaged_answer_is_asked_for_again(server: Loopback, tmp_path: Path, kept: str) -> None:
    file = tmp_path / "answers"
    with make(server, file) as reranker:
        first = reranker.rank("q", DOCUMENTS)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("UPDATE responses SET value = ?", (kept,))
        assert reranker.rank("q", DOCUMENTS).results == first.results
    assert server.count == 2


def test_an_answer_with_the_first_k_is_none_with_all(server: Loopback, tmp_path: Path) -> None:
    from loopback import Response

    from rerank import ProviderError

    server.script([Response({"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.4}]})])
    with make(server, tmp_path / "answers", "generic", top_k_field="") as reranker:
        assert len(reranker.rank("q", DOCUMENTS, top_k=2)) == 2
        with pytest.raises(ProviderError, match="2 results instead of 3"):
            reranker.rank("q", DOCUMENTS)


def test_wrong_answers_are_not_kept(server: Loopback, tmp_path: Path) -> None:
    from api_ranking import rerank
    from loopback import Response

    from rerank import ProviderError

    server.script([Response({"results": []})])
    with make(server, tmp_path / "answers") as reranker:
        with pytest.raises(ProviderError):
            reranker.rank("q", DOCUMENTS)
        server.handler = rerank
        assert len(reranker.rank("q", DOCUMENTS)) == 3
