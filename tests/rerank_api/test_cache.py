"""The cache sends equal requests once, keys on everything that changes a response, and keeps its file small."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from api_loopback import Loopback

from rerank import InvalidOptionsError, Reranker
from rerank_api.cache import AnswerCache

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


def test_the_file_stays_within_its_bounds(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    cache = AnswerCache(file, 2**16)
    for i in range(2000):
        cache.put(f"{i:064}", [i / 7] * 20)
    assert file.stat().st_size <= 2**16
    assert cache.get(f"{1999:064}", 20) == [1999 / 7] * 20
    assert cache.get(f"{0:064}", 20) is None
    cache.put("large", [0.123456789] * 100_000)  # never fits, and harms nothing
    assert file.stat().st_size <= 2**16
    cache.close()


PUT_MANY = """
import sys
from pathlib import Path
from rerank_api.cache import AnswerCache

cache, start = AnswerCache(Path(sys.argv[1]), 2**22), int(sys.argv[2])
for i in range(start, start + 100):
    cache.put(str(i), [float(i)])
cache.close()
"""


def test_processes_share_the_file(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    commands = [[sys.executable, "-c", PUT_MANY, str(file), str(100 * i)] for i in range(3)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    cache = AnswerCache(file, 2**22)
    assert [cache.get(str(i), 1) for i in range(300)] == [[float(i)] for i in range(300)]
    cache.close()


def test_a_file_that_is_no_cache_is_told(server: Loopback, tmp_path: Path) -> None:
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
            other.execute("DROP TABLE answers")
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
            other.execute("UPDATE answers SET scores = ?", (kept,))
        assert reranker.rank("q", DOCUMENTS).results == first.results
    assert server.count == 2


def test_an_answer_with_the_first_k_is_none_with_all(server: Loopback, tmp_path: Path) -> None:
    from api_loopback import Response

    from rerank import ProviderError

    server.script([Response({"results": [{"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.4}]})])
    with make(server, tmp_path / "answers", "generic", top_k_field="") as reranker:
        assert len(reranker.rank("q", DOCUMENTS, top_k=2)) == 2
        with pytest.raises(ProviderError, match="2 results where 3"):
            reranker.rank("q", DOCUMENTS)


def test_wrong_answers_are_not_kept(server: Loopback, tmp_path: Path) -> None:
    from api_loopback import Response, rerank

    from rerank import ProviderError

    server.script([Response({"results": []})])
    with make(server, tmp_path / "answers") as reranker:
        with pytest.raises(ProviderError):
            reranker.rank("q", DOCUMENTS)
        server.handler = rerank
        assert len(reranker.rank("q", DOCUMENTS)) == 3
