"""Several devices at once: one process each, spawned on first use; this module imports no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.process
import pickle
import signal
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from rerank import ForkSafeLock, ScoringError, renew_in_child

T = TypeVar("T")
R = TypeVar("R")


class DevicePool(Generic[T, R]):
    """Runs tasks on several devices, with the same callable in one process per device.

    Safe to use from several threads; their calls take turns. After a child's death, an interrupted call (Ctrl-C)
    or `close`, the next call starts new processes.

    Args:
        start: Called in each child with its device; returns what runs a task there. It, the tasks and the results
            must pickle.
        devices: One child per entry; a device may be listed twice.
    """

    def __init__(self, start: Callable[[str], Callable[[T], R]], devices: Sequence[str]) -> None:
        self._start = start
        self._devices = tuple(devices)
        self._lock = ForkSafeLock()
        self._ending: Any = None  # the finalizer that ends the children
        self._renew()
        renew_in_child(self._renew)

    def _renew(self) -> None:
        """Begin without children; those of a parent that forked stay the parent's."""
        if self._ending is not None:
            self._ending.detach()
            for child in self._children:  # multiprocessing would end them when this process exits
                multiprocessing.process._children.discard(child.process)  # type: ignore[attr-defined]
        self._children: list[_Child] = []
        self._ending = weakref.finalize(self, _end, self._children)  # a pool that is dropped leaves no processes

    def map(self, tasks: Sequence[T]) -> list[R]:
        """Run every task on whichever device is free.

        Args:
            tasks: The slowest first, so that all devices finish at about the same time.

        Returns:
            One result per task, in the order of the tasks.

        Raises:
            ScoringError: A child died; the message has its exit code.
            Exception: What a task or ``start`` raised, once the other children have finished theirs.
        """
        with self._lock:
            if not self._children:
                self._children += [_spawn(self._start, device) for device in self._devices]
            for child in self._children:
                if not child.process.is_alive():  # since the last call
                    raise self._death_of(child)
            try:
                return self._map(tasks)
            finally:
                if any(child.busy for child in self._children):  # interrupted: the next call would take their answers
                    self._stop()

    def _map(self, tasks: Sequence[T]) -> list[R]:
        results: dict[int, R] = {}
        waiting = list(range(len(tasks)))[::-1]
        failure: Exception | None = None
        while waiting or any(child.busy for child in self._children):
            for child in self._children:
                if child.idle and waiting:
                    self._send(child, (waiting[-1], tasks[waiting.pop()]))
            for child in self._answering():
                index, result, error = self._receive(child)
                child.idle, child.busy = True, False
                if error is not None:
                    failure, waiting = failure or error, []
                    if index is None:  # the child could not start, and has ended
                        self._stop()
                        break
                elif index is not None:
                    results[index] = result
        if failure is not None:
            raise failure
        return [results[index] for index in range(len(tasks))]

    def _answering(self) -> list[_Child]:
        ready = wait([child.connection for child in self._children])
        return [child for child in self._children if child.connection in ready]

    def _send(self, child: _Child, message: tuple[int, T]) -> None:
        child.idle, child.busy = False, True
        try:
            child.connection.send(message)
        except OSError as error:
            raise self._death_of(child) from error

    def _receive(self, child: _Child) -> tuple[int | None, Any, Exception | None]:
        try:
            answer: tuple[int | None, Any, Exception | None] = child.connection.recv()
        except (EOFError, OSError) as error:
            raise self._death_of(child) from error
        return answer

    def _death_of(self, child: _Child) -> ScoringError:
        child.process.join(timeout=5)
        code = child.process.exitcode
        self._stop()
        return ScoringError(
            f"the process of device {child.device!r} died with exit code {code}: check its output above; -9 often "
            "means too little memory, and 1 a script whose calls are not under `if __name__ == '__main__':`"
        )

    def close(self) -> None:
        """End the processes, after the current call."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        _end(self._children)


@dataclass(kw_only=True)
class _Child:
    """A process: neither idle nor busy while it starts."""

    device: str
    process: SpawnProcess
    connection: Connection[Any, Any]
    idle: bool = False
    busy: bool = False


def _spawn(start: Callable[[str], Callable[[Any], Any]], device: str) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, start, device), name=f"rerank {device}", daemon=True)
    process.start()
    theirs.close()  # the child has the only copy, so that its death ends our side too
    return _Child(device=device, process=process, connection=ours)


def _serve(connection: Connection[Any, Any], start: Callable[[str], Callable[[Any], Any]], device: str) -> None:
    """The child's loop: start, report that, run tasks until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        run = start(device)
    except Exception as error:
        connection.send((None, None, _portable(error)))
        return
    with contextlib.suppress(EOFError, OSError):
        connection.send((None, None, None))
        while True:
            index, task = connection.recv()
            try:
                answer: tuple[int, Any, Exception | None] = (index, run(task), None)
            except Exception as error:
                answer = (index, None, _portable(error))
            connection.send(answer)


def _portable(error: Exception) -> Exception:
    """The exception itself if it survives pickling, else a `ScoringError` with its message."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes, to see whether they can be read)
    except Exception:
        return ScoringError(f"{type(error).__name__} in a child process: {error}; check its output above")
    return error


def _end(children: list[_Child]) -> None:
    """End processes, and forget them."""
    ending = children[:]
    children.clear()
    for child in ending:
        child.connection.close()  # a waiting child sees the end of its input and returns
        if child.busy or not child.idle:
            child.process.terminate()
    for child in ending:
        child.process.join(timeout=5)
        if child.process.is_alive():
            child.process.kill()
            child.process.join()
        child.process.close()
