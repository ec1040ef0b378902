"""Locks in a forked child: free, whatever a thread of the parent holds."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest

from rerank import ForkSafeLock, forks, no_fork, renew_in_child

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


def fork_and_reap() -> float:
    """Seconds until a fork's child, which enters a block of its own, has ended."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        with no_fork():
            os._exit(7)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    return time.monotonic() - start


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_for_the_blocks_of_other_threads() -> None:
    entered, ended = threading.Event(), threading.Event()

    def work() -> None:
        with no_fork(), no_fork():
            entered.set()
            time.sleep(0.3)
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    fork_and_reap()
    assert ended.is_set()
    thread.join()
    with no_fork():
        pass


def test_a_fork_inside_a_block_does_not_wait_for_itself() -> None:
    with no_fork():
        assert fork_and_reap() < 5
        child = os.fork()
    if child == 0:
        os._exit(7)  # the block has ended in the child too
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_no_longer_than_its_patience(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forks, "PATIENCE", 0.1)
    entered, done = threading.Event(), threading.Event()

    def work() -> None:
        with no_fork():
            entered.set()
            done.wait()

    thread = threading.Thread(target=work)
    thread.start()
    entered.wait()
    assert fork_and_reap() < 5
    assert "did not wait longer than 0.1 s" in caplog.text
    done.set()
    thread.join()


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
