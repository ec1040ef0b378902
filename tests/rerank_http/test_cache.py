"""The cache: a bounded file of values that several processes share, and whose damage costs nothing else."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chat import chatting
from loopback import Loopback

from rerank import InvalidOptionsError
from rerank_http import HttpOptions
from rerank_http.cache import CacheFile, ResponseCache, without_credentials


def test_the_file_stays_within_its_bounds(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    cache = CacheFile(file, 2**16)
    for i in range(400):
        cache.put(f"{i:064}", [i / 7] * 20)
    assert file.stat().st_size <= 2**16
    assert cache.get(f"{399:064}") == [399 / 7] * 20
    assert cache.get(f"{0:064}") is None
    cache.put("large", [0.123456789] * 100_000)  # never fits, and harms nothing
    assert file.stat().st_size <= 2**16
    cache.close()


PUT_MANY = """
import sys
from pathlib import Path
from rerank_http.cache import CacheFile

cache, start = CacheFile(Path(sys.argv[1]), 2**22), int(sys.argv[2])
for i in range(start, start + 100):
    cache.put(str(i), [float(i)])
cache.close()
"""


def test_processes_share_the_file(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    commands = [[sys.executable, "-c", PUT_MANY, str(file), str(100 * i)] for i in range(3)]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    cache = CacheFile(file, 2**22)
    assert [cache.get(str(i)) for i in range(300)] == [[float(i)] for i in range(300)]
    cache.close()


@pytest.mark.parametrize("value", ["text", 1.5, True, [], {"a": [None, "ü"]}])
def test_plain_data_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    cache = CacheFile(tmp_path / "answers", 2**16)
    cache.put("a", value)
    assert cache.get("a") == value
    cache.close()


def test_a_file_that_holds_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database at all, " * 100)
    with pytest.raises(InvalidOptionsError, match=r"notes\.txt"):
        CacheFile(file, 2**16)
    assert file.read_text().startswith("not a database")


def test_a_damaged_file_costs_its_values_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "answers"
    cache = CacheFile(file, 2**16)
    cache.put("a", "kept")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("UPDATE responses SET value = 'oops'")
        assert cache.get("a") is None
        assert "not JSON" in caplog.text
        other.execute("DROP TABLE responses")
    with caplog.at_level(logging.WARNING):
        assert cache.get("a") is None
        cache.put("a", "kept")
    assert "cannot be read: no such table" in caplog.text
    assert "cannot be written: no such table" in caplog.text
    cache.close()


def test_what_comes_after_close_finds_it_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = CacheFile(tmp_path / "answers", 2**16)
    cache.close()
    assert cache.get("a") is None
    assert "cannot be read: it is closed" in caplog.text


def test_a_key_depends_on_every_part_and_on_no_order(tmp_path: Path) -> None:
    options = HttpOptions(cache=tmp_path / "answers")
    cache = ResponseCache(options, "http://h", {"x-tenant": "a"})
    assert cache.key({"a": 1, "b": 2}) == cache.key({"b": 2, "a": 1})
    bodies: list[dict[str, Any]] = [{}, {"a": 1}, {"a": 2}, {"b": 1}, {"a": [1, 2]}, {"a": [2, 1]}]
    others = [
        ResponseCache(options, "http://i", {"x-tenant": "a"}),
        ResponseCache(options, "http://h", {"x-tenant": "b"}),
    ]
    keys = [cache.key(body) for body in bodies] + [cache.key({}, top_k=k) for k in (1, 2)]
    keys += [other.key({}) for other in others]
    assert len(set(keys)) == 10
    assert None not in keys


def test_without_a_file_nothing_is_kept() -> None:
    cache = ResponseCache(HttpOptions(), "http://h", {})
    assert cache.key({}) is None

    async def kept() -> Any:
        await cache.put(cache.key({}), "answer")
        return await cache.get(cache.key({}))

    assert asyncio.run(kept()) is None
    cache.close()


def test_credentials_change_no_answer() -> None:
    headers = {"authorization": "a", "api-key": "b", "x-api-key": "c", "proxy-authorization": "d", "x-tenant": "e"}
    assert without_credentials(headers) == {"x-tenant": "e"}


def test_equal_requests_are_sent_once_whoever_asks(server: Loopback, tmp_path: Path) -> None:
    for key in ("key-1234", "key-5678"):  # another key, another process
        with chatting(server.url, api_key=key, cache=tmp_path / "answers") as chat:
            for _ in range(2):
                answers, _ = chat.ask("hello")
                assert answers == ["hello"]
            _, tally = chat.ask("hello")
            assert (tally.cached, tally.requests, tally.usage) == (1, 0, {})
    assert server.count == 1


def test_everything_that_changes_an_answer_counts(server: Loopback, tmp_path: Path) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        (server.url, "hello", {}),
        (server.url, "other", {}),
        (server.url + "/eu", "hello", {}),
        (server.url, "hello", {"headers": {"X-Tenant": "a"}}),
        (server.url, "hello", {"headers": {"X-Tenant": "b"}}),
    ]
    for count, (url, text, options) in enumerate(calls, start=1):
        for _ in range(2):
            with chatting(url, cache=tmp_path / "answers", **options) as chat:
                assert chat.ask(text)[0] == [text]
            assert server.count == count


def test_a_reranker_that_asked_nothing_holds_no_file(server: Loopback, tmp_path: Path) -> None:
    with chatting(server.url, cache=tmp_path / "answers"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["answers"]  # no log that an open file has beside it
