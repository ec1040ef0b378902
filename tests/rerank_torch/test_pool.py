"""The pool runs functions of the standard library, so that its children import neither a test module nor torch."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pkgutil import resolve_name

import pytest

from rerank import InvalidInputError, ScoringError
from rerank_torch import DevicePool


def test_results_stand_by_index_whoever_made_them():
    pool = DevicePool(resolve_name, ["operator.neg", "operator.neg"])
    assert pool.map(list(range(50))) == [-n for n in range(50)]
    assert pool.map([]) == []
    assert len({child.process.pid for child in pool._children}) == 2
    pool.close()


def test_children_start_on_first_use_end_on_close_and_start_again():
    pool = DevicePool(resolve_name, ["operator.neg"])
    assert pool._children == []
    pool.map([1])
    process = pool._children[0].process
    pid = process.pid
    pool.close()
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert pool.map([2]) == [-2]
    pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_exits_leaves_the_parents_processes(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from pkgutil import resolve_name\n"
        "from rerank_torch import DevicePool\n"
        "if __name__ == '__main__':\n"
        "    pool = DevicePool(resolve_name, ['operator.neg', 'operator.neg'])\n"
        "    assert pool.map([1, 2]) == [-1, -2]\n"
        "    if (child := os.fork()) == 0:\n"
        "        sys.exit()\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "    assert pool.map([3, 4]) == [-3, -4]\n"
    )
    ran = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_child_killed_at_work_raises_with_its_exit_code():
    pool = DevicePool(resolve_name, ["time.sleep", "time.sleep"])
    pool.map([0])

    def kill():
        while not any(child.busy for child in pool._children):
            time.sleep(0.01)
        os.kill(next(child for child in pool._children if child.busy).process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ScoringError, match="exit code -9"):
        pool.map([60, 60])
    killer.join()
    assert pool.map([0, 0]) == [None, None]  # the next call starts anew
    pool.close()


def test_a_child_that_exits_raises_with_its_exit_code():
    pool = DevicePool(resolve_name, ["os._exit"])
    with pytest.raises(ScoringError, match=r"'os\._exit' died with exit code 7"):
        pool.map([7])


def test_an_error_in_a_task_comes_back_and_the_pool_goes_on():
    pool = DevicePool(resolve_name, ["operator.neg", "operator.neg"])
    with pytest.raises(TypeError, match="bad operand"):
        pool.map([1, "no number", 3])
    assert pool.map([1, 2, 3]) == [-1, -2, -3]
    pool.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_call_cut_short_leaves_no_answer_for_the_next():
    """The signal goes to the main thread, where the pool waits, as Ctrl-C's does."""
    pool = DevicePool(resolve_name, ["time.sleep", "time.sleep"])
    pool.map([0, 0])
    killer = threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    killer.start()
    with pytest.raises(KeyboardInterrupt):
        pool.map([60, 60])
    killer.join()
    assert pool._children == []
    pool.close()


def test_a_task_that_cannot_be_sent_is_an_error_and_the_next_call_starts_anew():
    pool = DevicePool(resolve_name, ["operator.not_", "operator.not_"])
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pool.map([1, lambda: None, 3])
    assert pool.map([1, 0]) == [False, True]
    pool.close()


def test_an_error_at_the_start_comes_back():
    pool = DevicePool(resolve_name, ["operator.neg", "operator.no_such_function"])
    with pytest.raises(AttributeError, match="no_such_function"):
        pool.map(list(range(10_000)))
    assert pool._children == []


def test_threads_take_turns():
    pool = DevicePool(resolve_name, ["operator.neg", "operator.neg"])
    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: pool.map([n] * 20)})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [-n] * 20 for n in range(4)}
    pool.close()


def test_an_error_that_cannot_travel_comes_back_as_its_words():
    from rerank_torch.pool import _portable

    class Local(Exception):
        pass

    portable = _portable(Local("what it said"))
    assert isinstance(portable, ScoringError)
    assert "Local" in str(portable)
    assert "what it said" in str(portable)
    assert isinstance(_portable(InvalidInputError("kept")), InvalidInputError)


def test_a_dropped_pool_leaves_no_processes():
    pool = DevicePool(resolve_name, ["operator.neg", "operator.neg"])
    pool.map([1, 2])
    processes = [child.process for child in pool._children]
    pids = [process.pid for process in processes]
    del pool
    gc.collect()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
