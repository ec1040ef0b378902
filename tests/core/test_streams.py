"""Streams: what runs in them, who shares them, and how their work ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rerank import OutOfMemoryError, ScoringError, Streams, available_cores, map_batches
from rerank import streams as module

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")


@pytest.fixture
def two():
    streams = Streams(2)
    yield streams
    streams.close()


class Steps:
    """So many steps of work, and the threads that took them."""

    def __init__(self, count, seconds=0.0):
        self.left, self.seconds, self.lock, self.threads = count, seconds, threading.Lock(), []

    def __call__(self):
        with self.lock:
            if not self.left:
                return False
            self.left -= 1
            self.threads.append(threading.current_thread().name)
        time.sleep(self.seconds)
        return True


def test_all_threads_work_at_once(two):
    together = threading.Barrier(2, timeout=10)
    steps = Steps(2)

    def step():
        more = steps()
        if more:
            together.wait()  # breaks unless both threads are here
        return more

    two.run(step)
    assert len(set(steps.threads)) == 2


def test_at_most_bounds_the_threads_of_a_call(two):
    steps = Steps(20, seconds=0.001)
    two.run(steps, at_most=1)
    assert len(steps.threads) == 20
    together = []

    def step():
        together.append(1)
        count = len(together)
        time.sleep(0.001)
        together.pop()
        assert count == 1
        return steps()

    steps.left = 20
    two.run(step, at_most=1)


def test_callers_share_the_threads_and_start_no_others():
    streams = Streams(2)
    before = threading.active_count()
    works = [Steps(30, seconds=0.002) for _ in range(4)]
    ends = []

    def call(work):
        streams.run(work)
        ends.append(time.perf_counter())

    started = time.perf_counter()
    callers = [threading.Thread(target=call, args=(work,)) for work in works]
    for caller in callers:
        caller.start()
    time.sleep(0.02)
    assert threading.active_count() <= before + len(callers) + 2
    for caller in callers:
        caller.join()
    streams.close()
    assert len({name for work in works for name in work.threads}) == 2
    assert min(ends) - started > (max(ends) - started) / 2  # one after another, the first would end at a quarter


def test_the_first_exception_ends_the_call_and_nothing_else(two):
    calls = []

    def fail():
        calls.append(1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        two.run(fail)
    assert len(calls) <= 2
    steps = Steps(5)
    two.run(steps)
    assert len(steps.threads) == 5


def test_no_thread_still_works_when_an_exception_arrives(two):
    inside = []

    def step():
        inside.append(1)
        try:
            if len(inside) == 2:
                raise ValueError("broken")
            time.sleep(0.05)
            return True
        finally:
            inside.pop()

    with pytest.raises(ValueError):
        two.run(step)
    assert inside == []


@pytest.mark.usefixtures("no_garbage")
def test_ctrl_c_ends_the_work_and_leaves_the_streams_usable(two):
    steps = Steps(10_000, seconds=0.001)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    caller = threading.get_ident()
    try:
        timer = threading.Timer(0.1, lambda: signal.pthread_kill(caller, signal.SIGINT))
        timer.start()  # kept, since an interrupt is lost in the weakref callbacks of a thread that is forgotten
        with pytest.raises(KeyboardInterrupt):
            two.run(steps)
    finally:
        signal.signal(signal.SIGINT, handler)
    left = steps.left
    time.sleep(0.05)
    assert 0 < steps.left == left
    again = Steps(3)
    two.run(again)
    assert len(again.threads) == 3


def test_a_thread_is_prepared_once_before_its_first_work():
    prepared = []
    streams = Streams(2, lambda: prepared.append(threading.current_thread().name))
    assert prepared == []
    for _ in range(3):
        steps = Steps(20, seconds=0.001)
        streams.run(steps)
        assert set(steps.threads) <= set(prepared)
    streams.close()
    assert len(prepared) == len(set(prepared)) <= 2


def test_closing_ends_a_call_under_way_with_an_error(two):
    steps = Steps(10_000, seconds=0.001)
    threading.Timer(0.05, two.close).start()
    with pytest.raises(ScoringError, match="closed while"):
        two.run(steps)
    with pytest.raises(ScoringError, match="is closed"):
        two.run(steps)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_threads_of_its_own(two):
    two.run(Steps(4))
    child = os.fork()
    if child == 0:
        steps = Steps(4)
        two.run(steps)
        os._exit(0 if len(steps.threads) == 4 else 1)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_batches_in_streams_give_what_one_thread_gives(two):
    items = [f"{'x' * (n % 37)}{n}" for n in range(200)]
    lengths = [len(item) for item in items]

    def forward(batch):
        time.sleep(0.0005)
        return [item.upper() for item in batch]

    alone = map_batches(items, lengths, forward, max_tokens=100)
    assert map_batches(items, lengths, forward, max_tokens=100, streams=two) == alone


def test_memory_that_runs_out_in_any_stream_halves_what_is_left(two):
    sizes = []

    def forward(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise MemoryError
        return [-item for item in batch]

    found = map_batches(range(100), [1] * 100, forward, max_tokens=16, out_of_memory=(MemoryError,), streams=two)
    assert found == [-item for item in range(100)]
    assert max(sizes) > 3


def test_a_row_that_lacked_memory_beside_others_runs_once_more_alone(two):
    inside, lock = [], threading.Lock()

    def forward(batch):
        with lock:
            inside.append(1)
            crowded = len(inside) > 1
        time.sleep(0.005)
        with lock:
            inside.pop()
        if crowded:
            raise MemoryError
        return batch

    found = map_batches(range(6), [10] * 6, forward, max_tokens=10, out_of_memory=(MemoryError,), streams=two)
    assert found == list(range(6))


def test_a_row_that_never_fits_is_an_error(two):
    def forward(batch):
        raise MemoryError

    with pytest.raises(OutOfMemoryError, match="one row of 10 tokens"):
        map_batches(range(6), [10] * 6, forward, max_tokens=10, out_of_memory=(MemoryError,), streams=two)


def test_a_thread_that_cannot_start_is_an_error_and_no_hang():
    failing = [True]

    def start():
        if failing[0]:
            raise RuntimeError("can't start new thread")

    streams = Streams(2, start)
    with pytest.raises(ScoringError, match="cannot start"):
        streams.run(Steps(5))
    failing[0] = False
    steps = Steps(5)
    streams.run(steps)
    streams.close()
    assert steps.left == 0


def test_every_stream_gets_work_of_a_short_call(two):
    sizes = []
    map_batches(range(8), [10] * 8, lambda batch: sizes.append(len(batch)) or batch, max_tokens=1000, streams=two)
    assert sorted(sizes) == [4, 4]


def test_the_affinity_mask_bounds_the_cores():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs a system with affinity masks")
    script = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "from rerank import available_cores; print(available_cores())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/../elsewhere", {"cpu.max": "50000 100000"}, 1),
        ("4:cpu,cpuacct:/box", {"cpu/box/cpu.cfs_quota_us": "200000", "cpu/box/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu,cpuacct:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("7:memory:/box", {"memory/box/cpu.max": "100000 100000"}, 64),
        ("0::/", {"cpu.max": "nonsense"}, 64),
        ("", {}, 64),
    ],
)
def test_a_containers_limit_bounds_the_cores(tmp_path, monkeypatch, membership, files, cores):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    (tmp_path / "membership").write_text(membership + "\n" if membership else "")
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert available_cores() == cores


def test_a_machine_without_control_groups_has_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MEMBERSHIP", tmp_path / "none")
    assert available_cores() >= 1
