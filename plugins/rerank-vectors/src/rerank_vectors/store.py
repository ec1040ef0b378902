"""Where packed vectors are kept by key, whatever the place; and what a fork leaves of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

from rerank import ForkSafeLock, renew_in_child


class Store(ABC):
    """Entries by key, for any number of threads."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        renew_in_child(self.after_fork)

    @abstractmethod
    def get(self, keys: Collection[bytes]) -> dict[bytes, bytes | memoryview]:
        """The entries that are kept under some keys; those that are not are left out."""

    @abstractmethod
    def missing(self, keys: Collection[bytes]) -> set[bytes]:
        """The keys under which nothing is kept."""

    @abstractmethod
    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries; what is kept already stays."""

    @abstractmethod
    def close(self) -> None:
        """Release what is held; a later call opens it again."""

    @abstractmethod
    def after_fork(self) -> None:
        """Be usable in a forked child, whatever another thread was doing at that moment."""
