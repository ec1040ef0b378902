"""A bounded SQLite file of responses, shared by threads and processes; the oldest are deleted first."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
import stat
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from rerank import InvalidOptionsError
from rerank_http.options import HttpOptions

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_PAGE: Final = 4096
_PATIENCE: Final = 5.0
"""Seconds to wait for another process's write."""
_PATIENCE_AT_FIRST: Final = 60.0
"""The same while the file is opened: without it there is no reranker, and not just one value less."""
_CREDENTIALS: Final = frozenset(("api-key", "authorization", "proxy-authorization", "x-api-key"))
"""Headers that say who asks, and nothing about what is asked."""
_TABLE: Final = "CREATE TABLE responses (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_LARGEST_SHARE: Final = 16
"""An answer larger than this part of ``max_bytes`` is not kept: it would throw out too many others."""


class ResponseCache:
    """What one service answered, where the user named a file to keep it in; without one, nothing is kept.

    Args:
        options: The construction's options.
        url: Where the service's requests go.
        headers: Of every request, with lower-case names; those that say who asks make no difference.

    Raises:
        InvalidOptionsError: The file cannot be made, or holds something else.
    """

    def __init__(self, options: HttpOptions, url: str, headers: Mapping[str, str]) -> None:
        self._file = None if options.cache is None else CacheFile(options.cache, options.cache_max_bytes)
        self._shared = {"format": _FORMAT, "url": url, "headers": without_credentials(headers)}

    def key(self, body: Mapping[str, Any], **more: Any) -> str | None:
        """A digest of everything that changes an answer; None where nothing is kept.

        Args:
            body: The request's body.
            more: Whatever else changes what is kept; plain data.
        """
        if self._file is None:
            return None
        parts = {**self._shared, "body": body, **more}
        return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    async def get(self, key: str | None) -> Any:
        """What was kept under a key; None where there is nothing."""
        return None if self._file is None or key is None else await asyncio.to_thread(self._file.get, key)

    async def put(self, key: str | None, value: Any) -> None:
        """Keep an answer under a key, as plain data."""
        if self._file is not None and key is not None:
            await asyncio.to_thread(self._file.put, key, value)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def without_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that may change an answer: all but those that are known to say who asks."""
    return {name: value for name, value in headers.items() if name not in _CREDENTIALS}


class CacheFile:
    """A file of JSON values by key. A file that cannot be read or written costs its values, never the call.

    It is checked at once and opened on first use, so that an unused cache needs no closing. It takes less than half
    of ``max_bytes``: the other half is for the journal, which SQLite keeps beside it while it writes.

    Args:
        path: The file; created if it is missing, for its owner alone.
        max_bytes: The maximum size of the file and its journal together.

    Raises:
        InvalidOptionsError: The file cannot be created, contains something else, or others can change it.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        try:
            self._path = path.expanduser()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _check_owner(self._path)
            self._connect().close()
        except (OSError, ValueError, RuntimeError, sqlite3.Error) as error:  # a NUL, or the home of nobody
            raise InvalidOptionsError(
                f"cache {self._path} cannot be used ({error}): name a new file in a folder that only you can write to"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_PATIENCE_AT_FIRST, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            _check_schema(connection)
            connection.execute("PRAGMA journal_mode = DELETE")  # a write-ahead log grows as long as somebody reads
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(_TABLE.replace("TABLE", "TABLE IF NOT EXISTS"))
            self._bound(connection)
            connection.execute(f"PRAGMA busy_timeout = {int(1000 * _PATIENCE)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _bound(self, connection: sqlite3.Connection) -> None:
        """Hold the file within its size; one that was larger loses its oldest values."""
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        pages = self._max_bytes // (2 * page_size + 8) - 1  # a journal has each page once, with 8 bytes of its own
        while connection.execute("PRAGMA page_count").fetchone() > (pages,) and _delete_oldest(connection):
            connection.execute("VACUUM")
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def _opened(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("it is closed")
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def get(self, key: str) -> Any:
        """The value stored under a key; None if there is none, or it is not JSON."""
        try:
            with (
                self._lock,
                closing(self._opened().execute("SELECT value FROM responses WHERE key = ?", (key,))) as rows,
            ):
                row = rows.fetchone()
        except sqlite3.Error as error:
            logger.warning("cache %s cannot be read: %s", self._path, error)
            return None
        if row is None:
            return None
        try:
            return json.loads(row[0])
        except (ValueError, TypeError, RecursionError) as error:
            logger.warning("cache %s holds a value that is not JSON: %s", self._path, error)
            return None

    def put(self, key: str, value: Any) -> None:
        """Store a value under a key; if the file is full, the oldest values are deleted. A very large value is not stored."""
        text = json.dumps(value)
        if len(text) > self._max_bytes // _LARGEST_SHARE:
            logger.info("an answer of %d bytes is too large for cache %s: raise cache_max_bytes", len(text), self._path)
            return
        try:
            with self._lock:
                connection = self._opened()
                while not _insert(connection, key, text) and _delete_oldest(connection):
                    pass
        except sqlite3.Error as error:
            logger.warning("cache %s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Close the file; a later use only logs a warning."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()


def _insert(connection: sqlite3.Connection, key: str, value: str) -> bool:
    """Whether a row was written; False if the file is full."""
    try:
        connection.execute("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, value))
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            return False
        raise
    return True


def _delete_oldest(connection: sqlite3.Connection) -> bool:
    """Delete a quarter of the values, the oldest; False if there are none."""
    deleted = connection.execute(
        "DELETE FROM responses WHERE rowid IN (SELECT rowid FROM responses ORDER BY rowid "
        "LIMIT 1 + (SELECT count(*) / 4 FROM responses))"
    )
    return deleted.rowcount > 0


def _check_owner(path: Path) -> None:
    """Create a file for its owner alone, or check that nobody else can change or replace it.

    Raises:
        OSError: It cannot be created, is no file, or all users can write to it or to its folder.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)
    try:
        found = os.fstat(handle)
    finally:
        os.close(handle)
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is no regular file")
    if os.name == "nt":  # whose permissions are not in these modes
        return
    for what, mode in (("it", found.st_mode), ("its folder", path.parent.stat().st_mode)):
        if mode & stat.S_IWOTH:
            raise OSError(f"every user can write to {what}")


def _check_schema(connection: sqlite3.Connection) -> None:
    """Check that a database is a cache or new.

    Raises:
        ValueError: It is of another program.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    tables = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application or tables not in ([], [(_TABLE,)]):
        raise ValueError("it is a database of another program")
