"""The documented exit codes; errors go only to standard error."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

RERANK = [sys.executable, "-m", "rerank"]


@pytest.fixture(autouse=True)
def _plugins(site: Site) -> None:
    site.install("fake_good", "fake_slow")


def test_0_is_done(run_apart: Callable[..., Any]) -> None:
    ran = run_apart("rank", "cat", "a dog", "a cat", "-m", "good", "-f", "tsv")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "rank\tscore\tid\ttext\n1\t1.0\t1\ta cat\n2\t0.0\t0\ta dog\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "failing"), "could not load failing: ZeroDivisionError"),
        (("-m", "no/such/model"), "no/such/model"),
        (("-m", "nothing-of-this-name", "-o", "local_files_only=true"), "nothing-of-this-name"),
        (("-m", "good", "-b", "none"), "no installed backend is called 'none'"),
    ],
)
def test_1_is_a_model_that_fails(run: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    ran = run("rank", "cat", "a dog", "a cat", *arguments)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("rerank: ")
    assert message in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rank",), "Missing argument 'QUERY'"),
        (("nonsense",), "No such command 'nonsense'"),
        (("--nonsense",), "No such option"),
        (("rank", "cat", "a", "b", "-f", "xml"), "Invalid value for '-f' / '--format'"),
        (("rank", "cat", "a", "b", "-k", "many"), "is not a valid integer"),
        (("rank", "cat", "a", "b", "-m", "good", "-k", "0"), "top_k must be a whole number of at least 1"),
        (("rank", " ", "a", "b", "-m", "good"), "the query is empty"),
        (("rank", "cat", "absent.jsonl", "-m", "good"), "absent.jsonl cannot be read"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "weigth=2"), "did you mean 'weight'"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "weight=heavy"), "'weight'"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "weight"), "--option 'weight' is not k=v: write, for example"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "=3"), "is not k=v"),
        (("rank", "cat", "a", "b", "-o", "model=good"), "--model"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "backend=good"), "--backend"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "registry=1"), "registry"),
        (("rank", "cat", "a", "b", "-m", "good", "-o", "self=1"), "self"),
        (("explain",), "Missing argument 'MODEL'"),
    ],
)
def test_2_is_wrong_usage(run: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("value", ["1", "1.0", "true", "v2"])
def test_a_revision_that_looks_like_a_number_is_text(run: Callable[..., Any], value: str) -> None:
    for name in ("revision", "token", "cache-dir", "lang"):
        ran = run("rank", "cat", "a", "b", "-m", "good", "-o", f"{name}={value}", "-f", "jsonl")
        assert (ran.code, ran.err) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")
def test_130_is_an_interruption() -> None:
    with subprocess.Popen(
        [*RERANK, "rank", "cat", "a", "b", "-m", "slow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "scoring\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes of POSIX")
@pytest.mark.parametrize("lines", [3, 20_000])
def test_141_is_a_closed_pipe(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "many.txt"
    path.write_text("a cat sat on the mat\n" * lines, encoding="utf-8")
    command = shlex.join([*RERANK, "rank", "cat", str(path), "-m", "good", "-f", "jsonl"])
    reader = "head -1" if lines > 3 else "true"  # a reader that is gone before the first line
    wait = "" if lines > 3 else "sleep 0.5; exec "
    ran = subprocess.run(
        ["bash", "-c", f"({wait}{command}) | {reader}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # unbuffered, Python itself overlooks a write that was cut short
        timeout=60,
    )
    assert ran.returncode == 141
    assert ran.stderr == ""
    assert len(ran.stdout.splitlines()) == (lines > 3)


def test_a_plugins_command_exits_with_its_own_code(run: Callable[..., Any], run_apart: Callable[..., Any]) -> None:
    assert run("greet") == (0, "hello\n", "")
    assert run("greet", "--code", "7") == (7, "hello\n", "")
    assert run_apart("greet", "--code", "7").code == 7


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("redirected", "code"), [(">/dev/full", 1), ("<&-", 2)])
def test_streams_that_are_full_or_closed(redirected: str, code: int) -> None:
    command = f"{shlex.join(RERANK)} rank cat -m good {'a-cat b' if code == 1 else ''} {redirected}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stderr.startswith("rerank: ")
