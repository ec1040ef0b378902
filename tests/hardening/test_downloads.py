"""An unreachable hub, a read-only cache, a full disk, and several processes at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rerank import ModelLoadError, Reranker

QUERY = "how do bees find flowers?"
TEXTS = ["A bee finds flowers by their colour.", "Shares rose."]
NAME = "owner/model"
BACKENDS = ["onnx", "cross-encoder"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs users, limits and signals of POSIX")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, subject_of: Callable[..., Any], hub: Any) -> str:
    """A backend whose model is on the hub."""
    folder = Path(subject_of(request.param).model)
    hub.add(NAME, {path.name: path.read_bytes() for path in folder.iterdir()})
    return str(request.param)


def rank(backend: str, *arguments: str) -> list[str]:
    return ["rank", QUERY, *TEXTS, "--model", NAME, "--backend", backend, "--format", "tsv", *arguments]


def left_over(cache: Path) -> list[Path]:
    """Files that stand under a name where they would be taken for whole."""
    return [path for path in cache.rglob("snapshots/*/*") if path.is_file() and path.stat().st_size > 100]


@pytest.mark.parametrize("offline", [False, True])
def test_no_network(
    backend: str, hub: Any, offline: bool, run_apart: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.stop()
    if offline:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = "was not reached: connect, or download it first, or give a local folder"
    for named in (backend, None):
        with pytest.raises(ModelLoadError, match=message):
            Reranker(NAME, backend=named)
    ran = run_apart(*rank(backend), **({"HF_HUB_OFFLINE": "1"} if offline else {}))
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_a_hub_that_never_answers_is_no_hang(run_apart: Callable[..., Any]) -> None:
    """An error comes after the ten seconds that a listing may take; one backend is enough, core asks the hub."""
    pytest.importorskip("rerank_onnx")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        short = {"HF_ENDPOINT": endpoint, "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        ran = run_apart(*rank("onnx"), **short)
    assert (ran.code, ran.out) == (1, "")
    assert "was not reached: connect, or download it first" in ran.err


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_hub_that_refuses(backend: str, hub: Any, status: int, run: Callable[..., Any]) -> None:
    hub.fail(status)
    ran = run(*rank(backend))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("rerank: ")
    assert NAME in ran.err
    assert any(step in ran.err for step in ("try again later", "token=", "check the name", "connect"))


AS_NOBODY = """
import os, sys
from rerank import Reranker
from rerank.cli import main, rank
model, warm, *arguments = sys.argv[1:]
Reranker(model, cache_dir=warm, backend=arguments[arguments.index("--backend") + 1]).rank("q", ["a"])  # imports
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
main(arguments)
"""


@pytest.mark.parametrize("exists", [True, False])
def test_a_cache_that_cannot_be_written(backend: str, tmp_path: Path, exists: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "closed")
        closed.mkdir()
        cache = closed / "hub"
        if exists:
            cache.mkdir()
            cache.chmod(0o555)
        closed.chmod(0o555)
        Path(folder).chmod(0o755)
        command = [sys.executable, "-c", AS_NOBODY, NAME, str(tmp_path / "warm"), *rank(backend)]
        done = subprocess.run(
            [*command, "--option", f"cache_dir={cache}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "HF_HOME": str(closed)},
        )
        closed.chmod(0o755)
    assert (done.returncode, done.stdout) == (1, "")
    assert NAME in done.stderr
    assert "check the connection and the cache folder's space and permissions, then try again" in done.stderr
    assert "Traceback" not in done.stderr


LIMITED = """
import resource, sys
from rerank.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
main(sys.argv[2:])
"""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 48 KiB, where this machine lets one be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if os.getuid() != 0 or not shutil.which("mount") or subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("needs to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_no_space_reported(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert NAME in done.stderr
    assert "the cache folder's space and permissions, then try again" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk(backend: str, hub: Any, tmp_path: Path, run: Callable[..., Any]) -> None:
    weights = "model.onnx" if backend == "onnx" else "model.safetensors"
    files = hub.repositories[NAME].revisions["main"]
    hub.add(NAME, {**files, weights: files[weights] + bytes(1 << 20)})
    with small_disk(tmp_path / "disk") as cache:
        command = [sys.executable, "-m", "rerank", *rank(backend), "--option", f"cache_dir={cache}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert_no_space_reported(done)
        assert not [path for path in left_over(cache) if path.name == weights]


def test_a_limit_of_file_size(backend: str, tmp_path: Path, run: Callable[..., Any]) -> None:
    """Writing fails midway, and once there is room the same cache serves."""
    cache = tmp_path / "cache"
    arguments = [*rank(backend), "--option", f"cache_dir={cache}"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "20000", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert_no_space_reported(done)
    assert all(path.stat().st_size < 20_000 for path in left_over(cache))
    ran = run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.out.splitlines()) == 1 + len(TEXTS)


def test_processes_that_download_at_once(backend: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rerank", *rank(backend), "--option", f"cache_dir={tmp_path / 'cache'}"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [(process.communicate(timeout=60), process.returncode) for process in running]
    for (out, error), code in outputs:
        assert code == 0, error
        assert out == outputs[0][0][0]
