"""Ctrl-C while a model scores, and a reader that closes the pipe: documented exit codes, no traceback, no hang."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")

INTERRUPTED = """
import os, signal, sys, threading
from rerank.cli import main
from rerank import Reranker

rank = Reranker.rank

def rank_and_soon_be_interrupted(self, *arguments, **options):
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    return rank(self, *arguments, **options)

Reranker.rank = rank_and_soon_be_interrupted
main(sys.argv[1:])
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More than any backend ranks in half a second; texts differ at the beginning, which no model cuts off."""
    path = tmp_path / "many.txt"
    path.write_text("".join(f"{number} {'a bee and a flower ' * 60}\n" for number in range(10_000)), encoding="utf-8")
    return path


def test_ctrl_c(subject: Any, many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["rank", "how do bees find flowers?", str(many), *subject.arguments]
    one_by_one = {"api": "batch_size=1", "llm-listwise": "stride=1", "llm-filter": "together=1"}
    if subject.backend in one_by_one:
        arguments = [*arguments, "--option", one_by_one[subject.backend], "--option", "max_concurrency=1"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_closed_pipe(subject: Any, tmp_path: Path, reader: str) -> None:
    path = tmp_path / "some.txt"
    path.write_text("".join(f"a{number % 40} {'b' * 200}\n" for number in range(1_000)), encoding="utf-8")
    command = [sys.executable, "-m", "rerank", "rank", "a7", str(path), *subject.arguments, "--format", "jsonl"]
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(command)} | {reader}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_cancelled_ranking_leaves_the_model_usable(subject: Any) -> None:
    """Cancelling does not wait for the answer's use, and the next ranking is right."""

    async def main() -> None:
        async with subject.build() as reranker:
            expected = await reranker.arank("bees", ["a bee", "a share"])
            task = asyncio.ensure_future(reranker.arank("bees", ["a bee and a flower"] * 200))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            again = await reranker.arank("bees", ["a bee", "a share"])
            assert [r.score for r in again] == pytest.approx([r.score for r in expected], abs=1e-5)

    asyncio.run(main())
