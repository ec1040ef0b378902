"""Forks beside threads: what waits for one, and what a child renews, since none of its parent's threads survives there."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final

logger = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds that a fork waits for forward passes under way."""

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


class _Forks:
    """Counts the forks of this process and the blocks that hold them up."""

    def __init__(self) -> None:
        self._threads: list[int] = []  # those inside a block, once per block
        self.begin_anew()

    def begin_anew(self) -> None:
        me = threading.get_ident()
        self._changed = threading.Condition()
        self._threads = [thread for thread in self._threads if thread == me]
        self._waiting = 0

    @contextmanager
    def held_up(self) -> Iterator[None]:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or me in self._threads)
            self._threads.append(me)
        try:
            yield
        finally:
            with self._changed:
                self._threads.remove(me)
                self._changed.notify_all()

    def wait(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._waiting += 1
            if not self._changed.wait_for(lambda: set(self._threads) <= {me}, PATIENCE):
                logger.warning(
                    "a fork did not wait longer than %g s for a forward pass: the child may hang when it ranks",
                    PATIENCE,
                )

    def go_on(self) -> None:
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()


_FORKS: Final = _Forks()


def no_fork() -> AbstractContextManager[None]:
    """A block during which no other thread forks: it waits for the block's end, but no longer than `PATIENCE`.

    The locks of native code cannot be renewed: a child in which a forward pass of the parent holds one would hang in its
    own first pass.
    """
    return _FORKS.held_up()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_FORKS.wait, after_in_parent=_FORKS.go_on, after_in_child=_FORKS.begin_anew)
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
