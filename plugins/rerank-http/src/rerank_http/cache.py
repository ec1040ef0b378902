"""Answers kept in a SQLite file, shared by threads and processes, bounded, the oldest dropped first."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from rerank import InvalidOptionsError

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_PAGE: Final = 4096
_PATIENCE: Final = 5.0
"""Seconds to wait for another process's write."""


def cache_key(parts: Mapping[str, Any]) -> str:
    """A digest of everything that changes an answer."""
    content = json.dumps({"format": _FORMAT, **parts}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


class AnswerCache:
    """A file of answers by key. A file that cannot be read or written costs its answers, never the call.

    Args:
        path: The file; made where it is missing.
        max_bytes: The file's size stays within this.

    Raises:
        InvalidOptionsError: The file cannot be made, or holds something else.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path.expanduser()
        self._lock = threading.Lock()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._connection.execute(f"PRAGMA page_size = {_PAGE}")
                self._connection.execute("PRAGMA journal_mode = WAL")  # writes wait for no disk, readers for no writer
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute("PRAGMA wal_autocheckpoint = 64")
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, scores TEXT NOT NULL)"
                )
                self._connection.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE}")
            except BaseException:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise InvalidOptionsError(
                f"cache {self._path} cannot be used ({error}): name a file that is not there yet, in a folder you may write"
            ) from error

    def get(self, key: str, count: int) -> list[float | None] | None:
        """The scores kept under a key, or None; ``count`` is how many there have to be."""
        try:
            with (
                self._lock,
                closing(self._connection.execute("SELECT scores FROM answers WHERE key = ?", (key,))) as rows,
            ):
                row = rows.fetchone()
        except sqlite3.Error as error:
            logger.warning("cache %s cannot be read: %s", self._path, error)
            return None
        if row is None:
            return None
        try:
            scores = json.loads(row[0])
        except (ValueError, TypeError) as error:
            logger.warning("cache %s holds no answer under a key: %s", self._path, error)
            return None
        return scores if isinstance(scores, list) and len(scores) == count and all(map(_is_score, scores)) else None

    def put(self, key: str, scores: Sequence[float | None]) -> None:
        """Keep scores under a key, dropping the oldest where the file is full."""
        try:
            with self._lock:
                for _ in range(8):
                    if self._insert(key, json.dumps(scores)):
                        return
                    self._connection.execute(
                        "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers ORDER BY rowid "
                        "LIMIT 1 + (SELECT count(*) / 4 FROM answers))"
                    )
        except sqlite3.Error as error:
            logger.warning("cache %s cannot be written: %s", self._path, error)

    def _insert(self, key: str, scores: str) -> bool:
        try:
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, scores))
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                return False
            raise
        return True

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _is_score(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))
