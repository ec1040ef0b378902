"""The API reference builds from the docstrings of every distribution, without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pdoc", reason="needs pdoc, as `nox -s docs` installs it")

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.parent.name for path in [*ROOT.glob("core/src/*/py.typed"), *ROOT.glob("plugins/*/src/*/py.typed")]
)


def test_the_reference_builds_without_warnings(tmp_path: Path) -> None:
    modules = [
        name
        for name in MODULES
        if subprocess.run([sys.executable, "-c", f"import {name}"], check=False).returncode == 0
    ]
    command = [sys.executable, "-m", "pdoc", "--docformat", "google", "-o", str(tmp_path), *modules, "rerank.testing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "Warn" in line and "rerank.Claim.__init__" not in line]
    assert not warned  # of a NamedTuple's own constructor pdoc looks types up in the wrong module
    for name in modules:
        assert (tmp_path / f"{name}.html").is_file()
    assert "Reranker" in (tmp_path / "rerank.html").read_text(encoding="utf-8")
