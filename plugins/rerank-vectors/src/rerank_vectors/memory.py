"""Entries in memory, up to a number of bytes; the least recently used go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping

from rerank_vectors.store import Store


class Memory(Store):
    """Entries of one process.

    Args:
        max_bytes: Of all entries together.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, keys: Collection[bytes]) -> dict[bytes, bytes | memoryview]:
        """The entries that are kept under some keys."""
        with self.lock:
            found = {key: self._entries[key] for key in keys if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
        return {**found}

    def missing(self, keys: Collection[bytes]) -> set[bytes]:
        """The keys under which nothing is kept."""
        with self.lock:
            return {key for key in keys if key not in self._entries}

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries; an entry that is too large on its own is not kept."""
        with self.lock:
            for key, entry in entries.items():
                if key in self._entries or len(entry) > self._max_bytes:
                    continue
                self._entries[key] = entry
                self._bytes += len(entry)
                while self._bytes > self._max_bytes:
                    _, oldest = self._entries.popitem(last=False)
                    self._bytes -= len(oldest)

    def close(self) -> None:
        """Forget all entries."""
        with self.lock:
            self._entries.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        """Count the bytes anew."""
        self._bytes = sum(map(len, self._entries.values()))
