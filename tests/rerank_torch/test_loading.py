"""Loading leaves no lasting change in the process, whichever thread it runs in."""

from __future__ import annotations

import threading
import time

import pytest

transformers = pytest.importorskip("transformers")

from rerank import ModelRef  # noqa: E402
from rerank_torch.loading import _load_errors  # noqa: E402


def test_loads_in_several_threads_leave_transformers_as_it_was():
    log = transformers.utils.logging
    before = log.get_verbosity(), log.is_progress_bar_enabled()
    entered = threading.Event()

    def load(seconds):
        with _load_errors(ModelRef(name="owner/model")):
            entered.set()
            time.sleep(seconds)

    threads = [threading.Thread(target=load, args=(seconds,)) for seconds in (0.1, 0.3)]
    threads[0].start()
    entered.wait()
    threads[1].start()  # within the first, and longer
    for thread in threads:
        thread.join()
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
