"""Describing a service costs milliseconds, and the caller needs no plugin."""

from __future__ import annotations

import subprocess
import sys

import pytest


def imported(code: str) -> set[str]:
    """The modules that a process has after it ran the code."""
    show = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True, timeout=60)
    return set(done.stdout.split())


def test_options_and_keys_import_nothing_heavy() -> None:
    assert not imported("import rerank_http") & {"httpx", "tenacity", "sqlite3"}


@pytest.mark.parametrize("module", ["caller", "portal", "transport", "cache", "failures", "retries", "pace"])
def test_no_plugin_is_imported(module: str) -> None:
    plugins = {name for name in imported(f"import rerank_http.{module}") if name.startswith("rerank_")}
    assert {name.partition(".")[0] for name in plugins} == {"rerank_http"}
