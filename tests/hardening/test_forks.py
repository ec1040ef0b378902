"""A forked child answers, with the parent's scores, and ends: whatever the parent's threads hold at that moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
TESTS = Path(__file__).parents[1]

PROGRAM = """
import os, sys, threading, time
from rerank import Reranker
DOCUMENTS = ["bees dance " * 30, "a share", "a flower is an organ of a plant " * 10] * 2
BUILD
def scores():
    return [result.score for result in reranker.rank("bees", DOCUMENTS)]
expected = scores()
PREPARE
stopped = threading.Event()
def rank_on():
    while not stopped.is_set():
        scores()
threads = [threading.Thread(target=rank_on, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
time.sleep(0.3)
failures = []
for number in range(20):
    child = os.fork()
    if child == 0:
        REBUILD
        code = 0 if all(abs(a - b) < 1e-5 for a, b in zip(scores(), expected)) else 3
        if number % 4 == 0:
            reranker.close()
        if number % 2:
            sys.exit(code)
        os._exit(code)
    end = time.monotonic() + 20
    ended = 0
    while not ended and time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
        failures.append("hung")
    elif status:
        failures.append(os.waitstatus_to_exitcode(status))
stopped.set()
for thread in threads:
    thread.join()
print("failures", failures)
"""
BUILDS = {
    "rerank_nano": "reranker = Reranker()",
    "rerank_crossencoder": "reranker = Reranker(FOLDER, device='cpu')",
    "rerank_api": """
from loopback import Loopback, Response
def answer(hit):
    count = len(hit.body["documents"])
    return Response({"results": [{"index": i, "relevance_score": 1 / (i + 1)} for i in range(count)]})
server = Loopback(answer)
reranker = Reranker("jina", url=server.url, api_key="key-1234", max_retries=0, deadline=15)
""",
}


USES_TORCH = "import torch; torch.ones(600, 600) @ torch.ones(600, 600)  # the main thread's pool of threads"


@pytest.mark.parametrize("builds_its_own", [False, True])
@pytest.mark.parametrize("package", BUILDS)
def test_twenty_children_beside_eight_busy_threads(
    package: str, builds_its_own: bool, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(package)
    folder = request.getfixturevalue("torch_folder") if package == "rerank_crossencoder" else ""
    if builds_its_own and package == "rerank_api":
        pytest.skip("a Reranker of a service has no model to build")
    build = BUILDS[package].replace("FOLDER", repr(str(folder)))
    program = PROGRAM.replace("REBUILD", build if builds_its_own else "pass").replace("BUILD", build)
    program = program.replace("PREPARE", USES_TORCH if folder else "")
    paths = os.pathsep.join([str(TESTS / "rerank_http"), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(  # noqa: PLW1510 (its output says what failed)
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert ran.stdout.splitlines()[-1:] == ["failures []"], ran.stderr[-2000:]
