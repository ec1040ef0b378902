"""Locks in a forked child: free, whatever a thread of the parent holds."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from rerank import ForkSafeLock, forks, renew_in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_lock_that_another_thread_holds_is_free_in_the_child(reentrant: bool) -> None:
    lock = ForkSafeLock(reentrant=reentrant)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        with lock:
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    done.set()
    thread.join()
    with lock:
        pass


def test_a_reentrant_lock_is_taken_twice() -> None:
    lock = ForkSafeLock(reentrant=True)
    with lock, lock:
        pass


def test_what_is_dropped_is_renewed_no_more() -> None:
    class Thing:
        def __init__(self) -> None:
            renew_in_child(self.renew)

        def renew(self) -> None: ...

    before = len(forks._RENEWALS)
    thing = Thing()
    assert len(forks._RENEWALS) == before + 1
    del thing
    gc.collect()
    assert len(forks._RENEWALS) <= before
