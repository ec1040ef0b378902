"""Threads that share the work of all callers: on a CPU one per core, each computing single-threaded."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from pathlib import Path
from typing import Final

from rerank.errors import ScoringError
from rerank.forks import renew_in_child

_CGROUPS: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")


class Streams:
    """A fixed number of threads, shared by all callers.

    An operation that is spread over all cores ends with a barrier, at which one core that is busy with something else
    holds up the rest. Threads that each compute on one core, with their own batches, have no barrier. The threads start
    on first use, and again in a forked child.

    Args:
        count: How many threads, at least 1.
        start: Called once in each thread before its first work, for example to make its arithmetic single-threaded.
        interrupt: Called where a wait for steps is interrupted (Ctrl-C), to end those under way sooner.
    """

    def __init__(
        self,
        count: int,
        start: Callable[[], object] | None = None,
        *,
        interrupt: Callable[[], object] = lambda: None,
    ) -> None:
        self.count = count
        self._start, self._interrupt = start, interrupt
        self._closed = False
        self._renew()
        renew_in_child(self._renew)

    def _renew(self) -> None:
        self._pool = ThreadPoolExecutor(self.count, "rerank stream", initializer=self._start)

    def run(self, step: Callable[[], bool], *, at_most: int | None = None) -> None:
        """Call ``step`` repeatedly, in several threads at once, until it returns False in each of them.

        Callers share the threads evenly: after every step a thread continues with the work that has waited longest.

        Args:
            step: Does one piece of work and returns whether to go on.
            at_most: Use no more than this many threads; None uses all.

        Raises:
            ScoringError: The streams are closed, or a thread cannot start.
            BaseException: What ``step`` raised first, or what interrupted the wait (Ctrl-C); no thread runs ``step``
                any more by then.
        """
        if self._closed:
            raise ScoringError("the model is closed: build another Reranker")
        call = _Call(step, self.submit)
        try:
            for _ in range(self.count if at_most is None else min(self.count, at_most)):
                call.start_turn()
            call.wait()
        except BaseException:
            self._interrupt()
            raise
        finally:
            call.stop()
        if call.failures:
            raise self._cause(call.failures[0])

    def submit(self, turn: Callable[[], bool]) -> Future[bool]:
        """Run one turn in whichever thread is free, after all that were submitted before.

        Raises:
            ScoringError: As for `run`.
        """
        try:
            return self._pool.submit(turn)
        except RuntimeError as error:
            raise self._cause(error) from error

    def _cause(self, error: BaseException) -> BaseException:
        """What to raise for an error of a step or of the thread pool."""
        if self._closed and isinstance(error, RuntimeError):
            return ScoringError("the model was closed while it ranked: close it after its last call")
        if isinstance(error, BrokenThreadPool) or "start new thread" in str(error):
            self._renew()
            return ScoringError(
                f"a thread for the model cannot start ({error}): lower threads=, or raise the limit of processes"
            )
        return error

    def close(self) -> None:
        """End the threads after their current step."""
        self._closed = True
        self._pool.shutdown()


class _Call:
    """One caller's work: turns in several threads, each of which submits the next.

    Args:
        step: Does one piece of work and returns whether to go on.
        submit: Runs a turn in a thread.
    """

    def __init__(self, step: Callable[[], bool], submit: Callable[[Callable[[], bool]], Future[bool]]) -> None:
        self.failures: list[BaseException] = []
        self._step, self._submit = step, submit
        self._stopped = threading.Event()
        self._finished = threading.Semaphore(0)
        self._running = 0

    def start_turn(self) -> None:
        """Start working in one more thread."""
        self._submit(self._take_turn).add_done_callback(self._go_on)
        self._running += 1

    def _take_turn(self) -> bool:
        return not self._stopped.is_set() and self._step()

    def _go_on(self, turn: Future[bool]) -> None:
        try:
            if turn.result():
                self._submit(self._take_turn).add_done_callback(self._go_on)
                return
        except BaseException as error:
            self.failures.append(error)
            self._stopped.set()
        self._finished.release()

    def wait(self) -> None:
        """Wait until no thread works any more."""
        while self._running:
            self._finished.acquire()
            self._running -= 1

    def stop(self) -> None:
        """Take no further step, and wait for those under way."""
        self._stopped.set()
        self.wait()


def available_cores() -> int:
    """How many cores this process may use: those of its affinity mask, within its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *map(math.ceil, _quotas())]))


def _quotas() -> Iterator[float]:
    """The limits of the control groups that this process is in, in cores (Linux; versions 1 and 2)."""
    try:
        memberships = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = _CGROUPS / "cpu" if controllers else _CGROUPS
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (quota := _read_quota(folder)) is not None:
                yield quota


def _read_quota(folder: Path) -> float | None:
    """The limit that one control group sets, in cores; None if it sets none."""
    both = folder / "cpu.max"
    files = [both] if both.is_file() else [folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"]
    try:
        quota, period = " ".join(file.read_text(encoding="ascii") for file in files).split()
        cores = float(quota) / float(period)
    except (OSError, ValueError):  # version 2 writes "max" for no limit
        return None
    return cores if cores > 0 else None  # and version 1 writes -1
