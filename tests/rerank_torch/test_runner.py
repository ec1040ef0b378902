"""The runner: rows of any lengths through a small network of our own, whose values are computed by hand beside it."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rerank import InvalidOptionsError, OutOfMemoryError, ScoringError, available_cores  # noqa: E402
from rerank_torch import TorchOptions  # noqa: E402
from rerank_torch.rows import Padding, Row, pad  # noqa: E402
from rerank_torch.runner import RowError, Runner, count_threads  # noqa: E402

ROWS = [Row(tuple(range(1, n % 23 + 2)), first_len=n % 3) for n in range(120)]
needs_two_cores = pytest.mark.skipif(available_cores() < 2, reason="needs two cores")


class Sums:
    """Per row the sum of its token ids, and how many of them are in the first segment."""

    def __init__(self, device, hook=lambda batch: None):
        self.network = torch.nn.Linear(1, 1)
        self.hook = hook

    def __call__(self, batch):
        self.hook(batch)
        mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask
        return torch.stack([(batch.ids * mask).sum(1), (batch.in_first * mask).sum(1)], dim=1).float().unbind()


def by_hand(rows):
    return [[sum(row.ids), min(row.first_len, len(row.ids))] for row in rows]


def run(start=Sums, rows=ROWS, side="right", **options):
    parsed = TorchOptions(device="cpu", **options)
    runner = Runner(start, parsed, Padding(0, side))
    try:
        return np.stack(runner(rows, parsed)).tolist()
    finally:
        runner.close()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("max_batch_tokens", [1, 50, 100_000])
def test_values_stand_in_the_rows_order_however_they_are_batched(side, threads, max_batch_tokens):
    assert run(side=side, threads=threads, max_batch_tokens=max_batch_tokens) == by_hand(ROWS)


def test_no_rows_have_no_values():
    runner = Runner(Sums, TorchOptions(device="cpu"), Padding(0))
    assert runner([], TorchOptions(device="cpu")) == []


def test_values_may_have_shapes_of_their_own():
    class Ids(Sums):
        def __call__(self, batch):
            mask = torch.ones_like(batch.ids) if batch.mask is None else batch.mask
            return [row[kept == 1] for row, kept in zip(batch.ids, mask)]

    options = TorchOptions(device="cpu", threads=2)
    values = Runner(Ids, options, Padding(9))(ROWS, options)
    assert [tuple(value.astype(int)) for value in values] == [row.ids for row in ROWS]


@pytest.mark.parametrize(
    ("side", "ids", "mask", "in_first"),
    [
        ("right", [[1, 2, 3], [4, 9, 9]], [[1, 1, 1], [1, 0, 0]], [[True, True, False], [False, False, False]]),
        ("left", [[1, 2, 3], [9, 9, 4]], [[1, 1, 1], [0, 0, 1]], [[True, True, False], [True, True, False]]),
    ],
)
def test_short_rows_are_filled_on_the_side_asked_for(side, ids, mask, in_first):
    batch = pad([Row((1, 2, 3), 2), Row((4,), 0)], Padding(9, side), torch.device("cpu"))
    assert batch.ids.tolist() == ids
    assert batch.mask is not None
    assert batch.mask.tolist() == mask
    assert (batch.in_first & batch.mask.bool()).tolist() == (
        torch.tensor(in_first) & torch.tensor(mask).bool()
    ).tolist()


def test_rows_of_one_length_need_no_mask():
    assert pad([Row((1, 2)), Row((3, 4))], Padding(0), torch.device("cpu")).mask is None


@needs_two_cores
def test_streams_compute_on_one_thread_each_and_leave_other_threads_alone():
    seen = set()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        hook = lambda batch: seen.add((threading.current_thread().name, torch.get_num_threads()))  # noqa: E731
        run(partial(Sums, hook=hook), threads=2, max_batch_tokens=10)
        assert {count for _, count in seen} == {1}
        assert len(seen) <= 2
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as pool:  # a new thread starts with what the process was set to
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


@needs_two_cores
def test_callers_share_the_streams():
    names = set()
    options = TorchOptions(device="cpu", threads=2, max_batch_tokens=20)
    hook = lambda batch: names.add(threading.get_ident())  # noqa: E731
    runner = Runner(partial(Sums, hook=hook), options, Padding(0))
    with ThreadPoolExecutor(4) as pool:
        for values in pool.map(lambda n: runner(ROWS[n:], options), range(8)):
            assert len(values)
    assert len(names) <= 2
    runner.close()


def test_the_users_autocast_and_gradients_stay_outside():
    seen = []
    hook = lambda batch: seen.append((torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()))  # noqa: E731
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(partial(Sums, hook=hook))
    assert set(seen) == {(False, True)}


def test_threads_bound_the_streams():
    assert count_threads(TorchOptions(threads=1)) == 1
    assert count_threads(TorchOptions(threads=10_000)) == available_cores()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert count_threads(TorchOptions()) == 1
    finally:
        torch.set_num_threads(before)


def test_a_network_that_changes_itself_runs_one_batch_at_a_time():
    class Ropes(torch.nn.Linear):
        rope_type = "dynamic"

    Ropes.__module__ = "transformers.models.made_up"

    class Foreign(torch.nn.Linear):
        pass

    class BigBird(torch.nn.Linear):
        def set_attention_type(self, kind): ...

    BigBird.__module__ = Ropes.__module__

    for kind in (Ropes, Foreign, BigBird):
        inside = []

        class Alone(Sums):
            def __init__(self, device, kind=kind, inside=inside):
                super().__init__(device)
                self.network = kind(1, 1)
                self.inside = inside

            def __call__(self, batch):
                self.inside.append(1)
                assert len(self.inside) == 1
                time.sleep(0.001)
                self.inside.pop()
                return super().__call__(batch)

        assert run(Alone, threads=2, max_batch_tokens=50) == by_hand(ROWS)


def test_memory_that_runs_out_halves_the_batches():
    sizes = []

    def cramped(batch):
        sizes.append(len(batch.ids))
        if sizes[-1] > 4:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    assert run(partial(Sums, hook=cramped), threads=2, max_batch_tokens=100_000) == by_hand(ROWS)
    assert max(sizes) > 4

    def hopeless(batch):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(OutOfMemoryError, match="one row of"):
        run(partial(Sums, hook=hopeless))


def test_an_exception_ends_all_streams():
    calls = []

    def fail(batch):
        calls.append(1)
        raise ValueError("broken")

    with pytest.raises(RowError, match=r"failed on a row of \d+ tokens \(ValueError: broken\)"):
        run(partial(Sums, hook=fail), threads=2, max_batch_tokens=1)
    assert len(calls) <= 2


@pytest.mark.usefixtures("no_garbage")
def test_ctrl_c_ends_all_streams():
    calls = []

    def slow(batch):
        calls.append(1)
        time.sleep(0.002)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    caller = threading.get_ident()
    try:
        timer = threading.Timer(0.1, lambda: signal.pthread_kill(caller, signal.SIGINT))
        timer.start()  # kept, since an interrupt is lost in the weakref callbacks of a thread that is forgotten
        with pytest.raises(KeyboardInterrupt):
            run(partial(Sums, hook=slow), rows=[Row((n, n)) for n in range(5000)], threads=2, max_batch_tokens=2)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(calls) < 5000


def test_a_closed_runner_says_so():
    options = TorchOptions(device="cpu")
    runner = Runner(Sums, options, Padding(0))
    runner.close()
    with pytest.raises(ScoringError, match="closed"):
        runner(ROWS, options)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InvalidOptionsError, match="device"):
        Runner(Sums, TorchOptions(device="cuda:99"), Padding(0))
