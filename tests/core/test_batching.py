"""Batching handles every row once, within the budget and in input order, and halves a batch only if memory runs out."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import textwrap
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank import (
    Document,
    Options,
    OutOfMemoryError,
    Request,
    ScoringError,
    group_requests,
    map_batches,
    plan_batches,
)

_lengths = st.lists(st.integers(0, 60), max_size=40)
_max_items = st.one_of(st.none(), st.integers(1, 10))


@given(lengths=_lengths, max_tokens=st.integers(1, 200), max_items=_max_items)
def test_a_plan_holds_each_row_once_within_the_budget(
    lengths: list[int], max_tokens: int, max_items: int | None
) -> None:
    batches = plan_batches(lengths, max_tokens, max_items)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(batches)
    for batch in batches:
        padded = max(lengths[i] for i in batch) * len(batch)
        assert padded <= max_tokens or len(batch) == 1
        assert max_items is None or len(batch) <= max_items
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(lengths, reverse=True)


@given(lengths=_lengths, max_tokens=st.integers(1, 200), max_items=_max_items)
def test_no_two_neighbouring_batches_fit_into_one(lengths: list[int], max_tokens: int, max_items: int | None) -> None:
    batches = plan_batches(lengths, max_tokens, max_items)
    for batch, following in pairwise(batches):
        longest = max(1, lengths[batch[0]])
        full = longest * (len(batch) + 1) > max_tokens
        assert full or len(batch) == max_items or not following


def test_equal_lengths_keep_their_order() -> None:
    assert plan_batches([3, 5, 3, 5], 1000) == [[1, 3, 0, 2]]


def test_no_rows_no_batches() -> None:
    assert plan_batches([], 10) == []
    assert map_batches([], [], lambda batch: pytest.fail("called"), max_tokens=10) == []


class NoMemory(Exception):
    """What a backend's own library would raise."""


@given(lengths=_lengths, max_tokens=st.integers(1, 300), max_items=_max_items, memory=st.integers(60, 400))
def test_results_come_in_input_order_whatever_memory_there_is(
    lengths: list[int], max_tokens: int, max_items: int | None, memory: int
) -> None:
    items = [(length, f"item {i}") for i, length in enumerate(lengths)]
    seen: list[tuple[int, str]] = []

    def forward(batch: list[tuple[int, str]]) -> list[str]:
        if max(length for length, _ in batch) * len(batch) > memory:
            raise NoMemory
        seen.extend(batch)
        return [name.upper() for _, name in batch]

    results = map_batches(
        items, lengths, forward, max_tokens=max_tokens, max_items=max_items, out_of_memory=(NoMemory,)
    )
    assert results == [name.upper() for _, name in items]
    assert sorted(seen) == sorted(items)


def test_halving_replans_what_is_left() -> None:
    sizes: list[int] = []

    def forward(batch: list[int]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise NoMemory
        return batch

    assert map_batches(list(range(16)), [10] * 16, forward, max_tokens=80, out_of_memory=(NoMemory,)) == list(range(16))
    assert sizes == [8, 4, *[2] * 8]


def test_one_row_that_does_not_fit_is_a_typed_error_with_its_cause() -> None:
    def forward(batch: list[str]) -> list[str]:
        if "long" in batch:
            raise NoMemory
        return batch

    with pytest.raises(OutOfMemoryError, match=r"one row of 90 tokens does not fit .* lower max_length") as caught:
        map_batches(["short", "long"], [5, 90], forward, max_tokens=500, out_of_memory=(NoMemory,))
    assert isinstance(caught.value.__cause__, NoMemory)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), MemoryError(), ValueError(), KeyboardInterrupt()])
def test_other_exceptions_propagate_at_once(error: BaseException) -> None:
    calls: list[int] = []

    def forward(batch: list[int]) -> list[int]:
        calls.append(len(batch))
        raise error

    with pytest.raises(type(error)):
        map_batches([1, 2, 3], [1, 1, 1], forward, max_tokens=10, out_of_memory=(NoMemory,))
    assert calls == [3]


@pytest.mark.parametrize("returned", [[], [1], [1, 2, 3]])
def test_a_forward_pass_that_loses_rows_is_an_error(returned: list[int]) -> None:
    with pytest.raises(ScoringError, match=rf"over 2 rows returned {len(returned)}"):
        map_batches([1, 2], [1, 1], lambda batch: returned, max_tokens=10)


def test_no_pass_is_spent_on_a_probe() -> None:
    calls: list[int] = []

    def forward(batch: list[int]) -> list[int]:
        calls.append(len(batch))
        return batch

    map_batches(list(range(100)), [4] * 100, forward, max_tokens=1000)
    assert calls == [100]


_SLOW = """
    import time
    from rerank import map_batches

    def forward(batch):
        time.sleep({seconds})
        return batch

    assert map_batches(list(range(4)), [1] * 4, forward, max_tokens=1, progress={progress}) == list(range(4))
"""


def _on_a_terminal(seconds: float, *, progress: bool) -> bytes:
    """What a terminal shows of four batches of this length."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    code = textwrap.dedent(_SLOW.format(seconds=seconds, progress=progress))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while part := _read(ours):
            shown += part
        assert process.wait() == 0
    os.close(ours)
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""


def test_a_bar_appears_on_a_terminal_once_work_takes_long() -> None:
    assert b"row" in _on_a_terminal(0.4, progress=True)


def test_short_work_shows_no_bar() -> None:
    assert _on_a_terminal(0.0, progress=True) == b""


def test_the_bar_can_be_switched_off() -> None:
    assert _on_a_terminal(0.4, progress=False) == b""


def test_no_bar_without_a_terminal() -> None:
    code = textwrap.dedent(_SLOW.format(seconds=0.4, progress=True))
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stderr == b""


def _requests(sizes: list[int], options: list[Options]) -> Iterator[Request]:
    for position, size in enumerate(sizes):
        documents = [Document(text="t", doc_id=i) for i in range(size)]
        yield Request(query=f"q{position}", documents=documents, options=options[position % len(options)])


@given(sizes=st.lists(st.integers(1, 9), max_size=20), limit=st.integers(1, 20))
def test_groups_keep_order_and_close_when_full(sizes: list[int], limit: int) -> None:
    groups = list(group_requests(_requests(sizes, [Options()]), limit))
    assert [request.query for group in groups for request in group] == [f"q{i}" for i in range(len(sizes))]
    for group in groups[:-1]:
        assert sum(len(request.documents) for request in group) >= limit
    for group in groups:
        assert sum(len(request.documents) for request in group[:-1]) < limit


def test_a_group_shares_its_options() -> None:
    a, b = Options(), Options(normalize=True)
    groups = group_requests(_requests([1] * 4, [a, a, b]), 100)
    assert [[request.query for request in group] for group in groups] == [["q0", "q1"], ["q2"], ["q3"]]


def test_groups_are_lazy() -> None:
    taken: list[int] = []

    def endless() -> Iterator[Request]:
        for request in _requests([2] * 1000, [Options()]):
            taken.append(1)
            yield request

    assert len(next(group_requests(endless(), 6))) == 3
    assert len(taken) == 3


def test_lengths_that_do_not_fit_the_items_are_named() -> None:
    with pytest.raises(ScoringError, match="2 items came with 1 lengths"):
        map_batches([1, 2], [1], lambda batch: batch, max_tokens=8)


def test_rows_that_may_not_be_padded_share_batches_with_their_equals():
    assert plan_batches([3, 5, 3, 5, 4], 100, pads=False) == [[1, 3], [4], [0, 2]]
