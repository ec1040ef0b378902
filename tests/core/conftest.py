"""Fixtures for core's tests: fake plugins, and the command in this process or in a process of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_plugins import Site

from rerank import cli as command_line
from rerank import registry as registries


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Fake distributions for this process and its children, without ours; discovery starts anew before and after."""
    place = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.setenv("PYTHONPATH", str(place.folder))
    ours = {point.dist.name for point in entry_points(group="rerank") if point.dist is not None}
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", ",".join(ours))  # they ask the hub, and add commands
    monkeypatch.setattr(command_line.cli, "commands", {})
    registries._discovered.cache_clear()
    yield place
    registries._discovered.cache_clear()
    place.forget()


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The command ``rerank`` in this process."""

    def run_here(*arguments: str, stdin: bytes | str = b"") -> Ran:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            command_line.main(list(arguments))
        captured = capsys.readouterr()
        return Ran(int(left.value.code or 0), captured.out, captured.err)

    return run_here


@pytest.fixture
def run_apart() -> Callable[..., Ran]:
    """The command ``rerank`` in a process of its own."""

    def run_there(*arguments: str, stdin: bytes | str = b"", **env: Any) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "rerank", *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**os.environ, **env},
            check=False,
            timeout=60,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run_there
