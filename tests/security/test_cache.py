"""The cache of services: bounded whatever the load, never another program's file, and no way to another's scores."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rerank import InvalidOptionsError, Reranker

pytest.importorskip("rerank_http")
from rerank_http import HttpOptions
from rerank_http.cache import CacheFile, ResponseCache

KEY = "sk-cache-1618033988"
DOCUMENTS = ["one", "two", "three"]
MIB = 2**20
posix = pytest.mark.skipif(os.name == "nt", reason="modes of files are POSIX's")


@pytest.fixture
def open_file() -> Iterator[Callable[[Path, int], CacheFile]]:
    """``open_file(path, max_bytes)``; closed at the end."""
    opened: list[CacheFile] = []

    def open_one(path: Path, max_bytes: int = MIB) -> CacheFile:
        opened.append(CacheFile(path, max_bytes))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


def size_of(folder: Path) -> int:
    """The size of all files in a folder, of which some may vanish."""
    total = 0
    for file in folder.iterdir():
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total


# The bound


@pytest.mark.parametrize("bound", [2**16, MIB])
def test_all_files_together_stay_within_the_bound(
    tmp_path: Path, open_file: Callable[..., CacheFile], bound: int
) -> None:
    """With eight writers and a reader that never rests."""
    caches = [open_file(tmp_path / "answers", bound) for _ in range(9)]
    done, largest = threading.Event(), 0

    def write(number: int) -> None:
        for n in range(25):
            caches[number].put(f"{number}-{n}", "x" * (bound // 17))

    def read() -> None:
        while not done.is_set():
            caches[8].get("0-0")

    def watch() -> None:
        nonlocal largest
        while not done.is_set():
            largest = max(largest, size_of(tmp_path))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    others = [threading.Thread(target=read), threading.Thread(target=watch)]
    for thread in (*writers, *others):
        thread.start()
    for thread in writers:
        thread.join(60)
    done.set()
    for thread in others:
        thread.join(10)
    assert 0 < largest <= bound
    assert size_of(tmp_path) <= bound / 2


def test_a_transaction_that_changes_every_page_stays_within_the_bound(
    tmp_path: Path, open_file: Callable[..., CacheFile]
) -> None:
    """The journal at its largest: it has every page of a full file."""
    cache = open_file(tmp_path / "answers")
    for n in range(40):
        cache.put(str(n), "x" * 20_000)
    connection = cache._opened()
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    connection.execute("UPDATE responses SET value = replace(value, 'x', 'y')")
    assert MIB / 2 < size_of(tmp_path) <= MIB
    connection.execute("ROLLBACK")


def test_a_lowered_bound_is_kept(tmp_path: Path, open_file: Callable[..., CacheFile]) -> None:
    cache = open_file(tmp_path / "answers", 4 * MIB)
    for n in range(30):
        cache.put(str(n), "x" * 60_000)
    cache.close()
    assert size_of(tmp_path) > MIB
    lowered = open_file(tmp_path / "answers", MIB)
    assert size_of(tmp_path) <= MIB
    assert lowered.get("29") is not None
    assert lowered.get("0") is None
    lowered.put("new", "y")
    assert lowered.get("new") == "y"


def test_one_large_answer_throws_out_no_others(tmp_path: Path, open_file: Callable[..., CacheFile]) -> None:
    cache = open_file(tmp_path / "answers")
    for n in range(10):
        cache.put(str(n), [n])
    for size in (MIB // 16, MIB, 8 * MIB):
        cache.put("large", "x" * size)
        assert cache.get("large") is None
    assert [cache.get(str(n)) for n in range(10)] == [[n] for n in range(10)]


# Files of others


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE notes (text TEXT)"],
        ["CREATE TABLE responses (key TEXT PRIMARY KEY, value TEXT NOT NULL, owner TEXT)"],
        ["CREATE VIEW responses AS SELECT 'a' AS key, '1' AS value"],
        [
            "CREATE TABLE responses (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
            "CREATE TRIGGER kept AFTER INSERT ON responses BEGIN DELETE FROM responses; END",
        ],
        ["PRAGMA application_id = 252006675"],
    ],
)
def test_a_database_of_another_program_is_refused_and_unchanged(tmp_path: Path, statements: list[str]) -> None:
    file = tmp_path / "theirs.sqlite"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)
    before = file.read_bytes()
    with pytest.raises(InvalidOptionsError, match=r"database of another program.*name a new file"):
        CacheFile(file, MIB)
    assert file.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == [file.name]


@posix
def test_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "answers").symlink_to(target)
    with pytest.raises(InvalidOptionsError, match="name a new file"):
        CacheFile(tmp_path / "answers", MIB)
    assert not target.exists()
    CacheFile(target, MIB)
    with pytest.raises(InvalidOptionsError, match="name a new file"):
        CacheFile(tmp_path / "answers", MIB)


@posix
def test_what_every_user_can_write_to_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "answers"
    file.touch()
    file.chmod(0o666)
    with pytest.raises(InvalidOptionsError, match="every user can write to it"):
        CacheFile(file, MIB)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(InvalidOptionsError, match="every user can write to its folder"):
        CacheFile(shared / "answers", MIB)


@posix
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path):
        with pytest.raises(InvalidOptionsError, match="name a new file"):
            CacheFile(path, MIB)


@posix
def test_a_new_file_is_its_owner_s_alone(tmp_path: Path, open_file: Callable[..., CacheFile]) -> None:
    before = os.umask(0)
    try:
        open_file(tmp_path / "answers").put("a", "b")
    finally:
        os.umask(before)
    assert (tmp_path / "answers").stat().st_mode & 0o777 == 0o600


# Whose answers


def test_every_header_that_may_choose_an_answer_is_part_of_its_key(tmp_path: Path) -> None:
    options = HttpOptions(cache=tmp_path / "answers")
    names = ["x-keyspace", "x-author-filter", "x-tenant-key", "x-partition-key", "x-token-limit", "x-tenant", "cookie"]
    for name in names:
        keys = {ResponseCache(options, "http://h", {name: tenant}).key({"query": "q"}) for tenant in ("a", "b")}
        assert len(keys) == 2, name


def test_no_tenant_gets_the_scores_of_another(tmp_path: Path, service: str) -> None:
    for tenant in ("a", "b"):
        with Reranker(
            "m",
            api_provider="jina",
            url=service,
            api_key=KEY,
            cache=tmp_path / "answers",
            headers={"X-Keyspace": tenant},
        ) as reranker:
            assert reranker.rank("q", DOCUMENTS).diagnostics["cached"] == 0
            assert reranker.rank("q", DOCUMENTS).diagnostics["cached"] == 1


def test_the_file_holds_no_key_and_no_text(tmp_path: Path, service: str) -> None:
    file = tmp_path / "answers"
    secret = {"X-Session": "hunter2hunter2"}
    with Reranker("m", api_provider="jina", url=service, api_key=KEY, cache=file, headers=secret) as reranker:
        reranker.rank("a secret question", DOCUMENTS)
    for text in (KEY, "hunter2hunter2", "secret question", "three"):
        assert text.encode() not in file.read_bytes()


# Poisoned rows

POISON = [
    "[" * 100_000 + "]" * 100_000,
    "[1" + "0" * 400 + ", 0.5, 0.5]",
    "[1" + "0" * 5000 + ", 0.5, 0.5]",
    "[1e400, 0.5, 0.5]",
    "[NaN, 0.5, 0.5]",
    '["0.5", "0.5", "0.5"]',
    "[[0.5], [0.5], [0.5]]",
    '{"0": 0.5}',
    '{"text": [], "logits": 3}',
    '{"txt": "[1] > [2] > [3]"}',
    '{"text": "[1] > [2] > [3]", "prompt_tokens": "many"}',
    "null",
    "",
    b"\xff\xfe",
    17,
]


def poison(file: Path, value: Any) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("UPDATE responses SET value = ?", (value,))


@pytest.mark.parametrize("value", POISON, ids=lambda value: str(value)[:12])
def test_a_poisoned_score_is_a_miss(tmp_path: Path, service: str, value: Any) -> None:
    file = tmp_path / "answers"
    with Reranker("m", api_provider="jina", url=service, api_key=KEY, cache=file) as reranker:
        first = reranker.rank("q", DOCUMENTS)
        poison(file, value)
        again = reranker.rank("q", DOCUMENTS)
        assert again.results == first.results
        assert again.diagnostics["cached"] == 0
        assert reranker.rank("q", DOCUMENTS).diagnostics["cached"] == 1  # and is replaced


@pytest.mark.parametrize("value", POISON[:-4], ids=lambda value: str(value)[:12])
def test_a_poisoned_completion_is_a_miss(tmp_path: Path, chat_endpoint: str, value: Any) -> None:
    file = tmp_path / "answers"
    with Reranker("stand-in", backend="llm-listwise", base_url=chat_endpoint, api_key=KEY, cache=file) as reranker:
        first = reranker.rank("q", DOCUMENTS)
        poison(file, value)
        again = reranker.rank("q", DOCUMENTS)
        assert [result.doc_id for result in again] == [result.doc_id for result in first]
        assert again.diagnostics["cached"] == 0
