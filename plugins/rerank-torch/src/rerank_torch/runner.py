"""Rows through a model of any architecture: rows → batches → streams or devices → values, in the rows' order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from rerank import (
    ForkSafeLock,
    RerankError,
    ScoringError,
    Streams,
    available_cores,
    map_batches,
    may_pad,
    no_fork,
    plan_batches,
)
from rerank_torch.device import OUT_OF_MEMORY, choose_devices, memory_errors_raised
from rerank_torch.options import TorchOptions
from rerank_torch.pool import DevicePool
from rerank_torch.rows import Batch, Padding, Row, pad

logger = logging.getLogger(__name__)

T = TypeVar("T")
Values: TypeAlias = list[NDArray[np.float32]]


class Forward(Protocol):
    """A model on one device."""

    @property
    def network(self) -> torch.nn.Module:
        """The model."""
        ...

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """Take a padded batch and return one tensor per row, such as its score or its token vectors."""
        ...


CPU_BATCH_TOKENS: Final = 768
"""Token count per batch on a CPU, padding included: few enough for a batch's activations to stay in a core's caches.

Measured on two cores with ``benchmarks/workload.py``: one query, 100 documents, seconds, medians of 5, for the
cross-encoder of MiniLM-L6's shape, quiet and beside two busy processes.

| tokens | 256 | 384 | 512 | 768 | 1024 | 1536 | 2048 | 4096 |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
| quiet | 1.97 | 1.82 | 1.88 | 1.85 | 2.05 | 2.13 | 2.20 | 2.78 |
| busy | 4.17 | 4.42 | 4.04 | 4.12 | 4.16 | 4.63 | 4.79 | 5.23 |
"""

BATCH_TOKENS: Final = 32_768
"""Token count per batch elsewhere: some hundred rows, enough to keep an accelerator busy; estimated, not measured."""


_EXACT: Final = 1e-4
"""How much a value may differ with padding in float32, which sums in another order."""

_ROUNDED: Final = 2e-2
"""The same in 16 bits."""


class RowError(ScoringError):
    """A model failed on one row alone.

    Args:
        row: The row.
        error: What the model raised.
    """

    def __init__(self, row: Row, error: Exception) -> None:
        super().__init__(
            f"the model failed on a row of {len(row.ids)} tokens ({type(error).__name__}: {error}): shorten its text, or "
            "leave it out"
        )
        self.row, self.error = row, error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.row, self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Rows, and how to batch them.

    Args:
        rows: The rows to run.
        max_tokens: Budget of one batch, padding included.
        max_items: At most this many rows per batch.
        shared: What the forward pass needs to know about all rows.
        shared_len: Token count of what each row has in memory besides its own tokens.
        progress: Whether to show a progress bar for long work.
    """

    rows: Sequence[Row]
    max_tokens: int
    max_items: int | None
    shared: Any = None
    shared_len: int = 0
    progress: bool = False

    @property
    def lengths(self) -> list[int]:
        """Token count per row, with what may be written after it."""
        return [len(row.ids) + row.room + self.shared_len for row in self.rows]


class Runner:
    """A model on one device, or a copy of it on each of several.

    On a CPU, batches run in as many streams as there are cores, each with one thread; see `rerank.Streams`.

    Args:
        start: Takes a device's name and returns the model on it. With several devices it is called in one process
            per device, on first use, and must pickle.
        options: ``device``, ``devices`` and ``threads`` are read.
        padding: How short rows are filled.

    Attributes:
        devices: The devices' names.
        forward: The model on the one device; None with several.
        pool: The processes of several devices; None with one.
        streams: The threads that run the model: on a CPU, and one where a network changes itself; None otherwise.

    Raises:
        InvalidOptionsError: A device is not available.
    """

    def __init__(self, start: Callable[[str], Forward], options: TorchOptions, padding: Padding) -> None:
        self.devices = choose_devices(options)
        on_cpu = sum(torch.device(device).type == "cpu" for device in self.devices)
        threads = max(1, count_threads(options) // max(1, on_cpu))
        begin = partial(_start_device, start=start, padding=padding, threads=threads)
        self.forward: Forward | None = None
        self.pool: DevicePool[Work, Values] | None = None
        self.streams: Streams | None = None
        if len(self.devices) > 1:
            self.pool = DevicePool(begin, self.devices)
            self._run: Callable[[Work], Values] = partial(_spread, self.pool)
            self._close = self.pool.close
        else:
            only = _in_own_thread(partial(begin, self.devices[0]))
            self.forward, self.streams = only.forward, only.streams
            self._run, self._close = only, only.close

    def __call__(
        self,
        rows: Sequence[Row],
        options: TorchOptions,
        max_tokens: int | None = None,
        shared: Any = None,
        shared_len: int = 0,
    ) -> Values:
        """Run rows; equal ones run once.

        Args:
            rows: In any order and of any lengths.
            options: ``batch_size``, ``max_batch_tokens`` and ``progress`` are read.
            max_tokens: Budget of one batch if the options set none; None means the device's default.
            shared: What the forward pass needs to know about all rows, as `Batch.shared`; must pickle.
            shared_len: Token count of what each row has in memory besides its own tokens, such as a prefix.

        Returns:
            One array per row, in the rows' order.

        Raises:
            OutOfMemoryError: One row alone does not fit.
            ScoringError: A device's process died, or the runner is closed.
        """
        budget = options.max_batch_tokens or max_tokens or (CPU_BATCH_TOKENS if self.on_cpu else BATCH_TOKENS)
        work = Work(
            rows=rows,
            max_tokens=budget,
            max_items=options.batch_size,
            shared=shared,
            shared_len=shared_len,
            progress=options.progress,
        )
        return self._run(work)

    @property
    def on_cpu(self) -> bool:
        """Whether the model is on a CPU."""
        return torch.device(self.devices[0]).type == "cpu"

    def reads(self, row: Row, options: TorchOptions) -> bool:
        """Whether the model runs on a row, which may be too long for it."""
        try:
            self([row], options)
        except RowError:
            return False
        return True

    def map(self, lengths: Sequence[int], work: Callable[[list[int]], Sequence[T]], *, max_tokens: int) -> list[T]:
        """Run work on the CPU over a call's items, in the model's streams where it has them.

        Args:
            lengths: Token count per item.
            work: Takes positions of items and returns one result per item.
            max_tokens: Items are handed out in groups of at most so many tokens.

        Returns:
            One result per item, in order.

        Raises:
            OutOfMemoryError: One item alone does not fit.
            ScoringError: The runner is closed.
        """
        return map_batches(
            range(len(lengths)),
            lengths,
            work,
            max_tokens=max_tokens,
            out_of_memory=OUT_OF_MEMORY,
            streams=self.streams,
        )

    def close(self) -> None:
        """End the streams or the processes."""
        self._close()


def _spread(pool: DevicePool[Work, Values], work: Work) -> Values:
    """Give one batch at a time to whichever device is free."""
    rows = list(dict.fromkeys(work.rows))
    batches = plan_batches(replace(work, rows=rows).lengths, work.max_tokens, work.max_items)
    parts = [[rows[i] for i in batch] for batch in batches]
    answers = pool.map([replace(work, rows=part, progress=False) for part in parts])
    values = {row: value for part, answer in zip(parts, answers) for row, value in zip(part, answer)}
    return [values[row] for row in work.rows]


def count_threads(options: TorchOptions) -> int:
    """How many threads a CPU's work may use: ``threads``, else what torch is set to, and no more than there are cores."""
    return min(options.threads or torch.get_num_threads(), available_cores())


class _Device:
    """A model on one device, with its streams."""

    def __init__(self, forward: Forward, device: str, padding: Padding, threads: int) -> None:
        self.forward, self._padding = forward, padding
        self._device = torch.device(device)
        on_cpu = self._device.type == "cpu"
        self.streams: Streams | None = None
        if _changes_itself(forward.network):
            self.streams = Streams(1, partial(_set_threads, threads))
        elif on_cpu:
            self.streams = Streams(threads, partial(_set_threads, 1))
        with no_fork():
            self._pads = self._may_pad(padding.probe)

    def _may_pad(self, probe: Sequence[Row]) -> bool:
        """Whether rows of different lengths may share a batch."""
        dtype = next((parameter.dtype for parameter in self.forward.network.parameters()), torch.float32)
        near = _EXACT if dtype in (torch.float32, torch.float64) else _ROUNDED

        def are_near(a: torch.Tensor, b: torch.Tensor) -> bool:
            return torch.allclose(a.float(), b.float(), rtol=near, atol=near)

        return not probe or may_pad(probe, self._forward, are_near, length=lambda row: len(row.ids))

    def __call__(self, work: Work) -> Values:
        values = map_batches(
            work.rows,
            work.lengths,
            partial(self._run, shared=work.shared),
            max_tokens=work.max_tokens,
            max_items=work.max_items,
            pads=self._pads,
            out_of_memory=OUT_OF_MEMORY,
            progress=work.progress,
            streams=self.streams,
        )
        return _to_host(values)

    def _run(self, rows: list[Row], shared: Any) -> Sequence[torch.Tensor]:
        """The values of one batch; of one that fails, row by row, so that a row fails alone."""
        try:
            return self._forward(rows, shared)
        except RerankError:
            raise
        except OUT_OF_MEMORY:
            raise
        except Exception as error:
            if len(rows) == 1:
                raise RowError(rows[0], error) from error
            return [value for row in rows for value in self._run([row], shared)]

    @torch.inference_mode()
    def _forward(self, rows: list[Row], shared: Any = None) -> Sequence[torch.Tensor]:
        with memory_errors_raised(), _without_autocast(self._device):
            return self.forward(pad(rows, self._padding, self._device, shared))

    def close(self) -> None:
        if self.streams is not None:
            self.streams.close()


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Turn off the caller's autocast, under which scores would be rounded."""
    try:
        return torch.autocast(device.type, enabled=False)
    except RuntimeError:  # an old torch has none for this kind of device
        return nullcontext()


def _in_own_thread(start: Callable[[], T]) -> T:
    """What ``start`` returns or raises, called in a new thread.

    The caller's autocast, default device and inference mode do not reach it. Nor does the caller's pool of arithmetic
    threads, of which none survives a fork: in a child, the thread that forked would wait for them, or crash.
    """
    started: Future[T] = Future()
    threading.Thread(target=_settle, args=(started, start), name="rerank load", daemon=True).start()
    try:
        return started.result()
    finally:
        del started  # an error refers to this frame: without a cycle, its memory is free at once


def _settle(started: Future[T], start: Callable[[], T]) -> None:
    try:
        started.set_result(start())
    except BaseException as error:
        started.set_exception(error)
        del started


def _start_device(device: str, *, start: Callable[[str], Forward], padding: Padding, threads: int) -> _Device:
    return _Device(start(device), device, padding, threads)


def _to_host(values: Sequence[torch.Tensor]) -> Values:
    """Values of a device as arrays; those of equal shape in one transfer, which waits for the device once."""
    if len({value.shape for value in values}) == 1:
        return list(torch.stack(list(values)).float().cpu().numpy())
    return [value.float().cpu().numpy() for value in values]


_OWN_CODE: Final = ("torch.", "transformers.", "rerank")
CHANGING_ROPES: Final = ("dynamic", "longrope")
"""Kinds of rotary embeddings that depend on how long a row is."""


def _changes_itself(network: torch.nn.Module) -> bool:
    """Whether a forward pass may change the network, so that two at a time would interfere.

    So do rotary embeddings that are scaled by the batch's longest row and BigBird, which changes its attention at the
    first short row; and code that a checkpoint brings may.
    """
    if any(hasattr(module, "set_attention_type") for module in network.modules()):
        return True
    if not all(type(module).__module__.startswith(_OWN_CODE) for module in network.modules()):
        return True
    ropes = [getattr(module, "rope_type", "") for module in network.modules()]
    return any(
        kind in CHANGING_ROPES for rope in ropes for kind in (rope.values() if isinstance(rope, dict) else [rope])
    )


_SETTING_THREADS: Final = ForkSafeLock()


def _set_threads(count: int) -> None:
    """Let this thread's arithmetic use ``count`` threads.

    torch keeps the number per thread, but every new thread starts with the last one set: so another thread restores it.
    """
    with _SETTING_THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(count)
        restoring = threading.Thread(target=torch.set_num_threads, args=(before,))
        restoring.start()
        restoring.join()
