"""Models on this machine call nobody and leave nothing behind, also in native code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CODE = """
import sys, time
from rerank import Reranker
model, backend = sys.argv[1:]
Reranker(model, backend=backend).rank("bees", ["a", "b"])
time.sleep(2)
"""
CALLS = ("connect", "sendto", "sendmsg")


def run(arguments: list[str], home: Path, *tracer: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "ORT_", "XDG_"))}
    done = subprocess.run(
        [*tracer, sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**environment, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize("backend", ["nano", "onnx", "colbert"])
def test_no_connection_and_no_file(subject_of: Callable[..., Any], home: Path, tmp_path: Path, backend: str) -> None:
    if backend == "colbert":
        pytest.importorskip("rerank_colbert")
    if shutil.which("strace") is None:
        pytest.skip("needs strace, to see what native code calls")
    subject = subject_of("cross-encoder" if backend == "colbert" else backend)
    trace = tmp_path / "trace"
    run(
        [subject.model, backend],
        home,
        "strace",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-e",
        f"trace={','.join(CALLS)}",
        "-o",
        str(trace),
    )
    called = [
        line for line in trace.read_text(encoding="utf-8").splitlines() if "AF_INET" in line or "AF_NETLINK" in line
    ]
    assert not called
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_run_without_any_network(subject_of: Callable[..., Any], home: Path) -> None:
    tracer = ("unshare", "-rn")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*tracer, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs a namespace without network (unshare -rn)")
    subject = subject_of("nano")
    run([subject.model, "nano"], home, *tracer)
    assert not [path for path in home.rglob("*") if path.is_file()]
