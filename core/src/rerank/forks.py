"""What a forked child renews: locks that a thread of the parent may hold, and threads, of which none survives a fork."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

_RENEWALS: Final[set[weakref.WeakMethod[Callable[[], Any]]]] = set()


def renew_in_child(method: Callable[[], Any]) -> None:
    """Call a method in every forked child, as long as its object lives.

    Args:
        method: A bound method; it may only replace what belongs to its object.
    """
    _RENEWALS.add(weakref.WeakMethod(method, _RENEWALS.discard))


def _renew_all() -> None:
    for reference in tuple(_RENEWALS):
        if (method := reference()) is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class ForkSafeLock:
    """A lock that is free in a forked child, also if a thread of the parent holds it at the fork.

    What it guards must be replaced, checked or harmless there: that thread may have been at any point.

    Args:
        reentrant: Whether the thread that holds it may take it again.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._kind: Callable[[], Any] = threading.RLock if reentrant else threading.Lock
        self._renew()
        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._lock = self._kind()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
