"""Third-party plugins that sleep, on import or in a hook, as real distributions on the path; core's tests have the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

SLEEPS = {
    "fake_sleeps_on_import": """
import time
time.sleep(1.1)
from rerank import hookimpl
from rerank.testing.fake import fake_backend

@hookimpl
def rerank_register_backends():
    yield fake_backend("sleeper")
""",
    "fake_sleeps_in_the_hook": """
import time
from rerank import hookimpl
from rerank.testing.fake import fake_backend

@hookimpl
def rerank_register_backends():
    time.sleep(1.1)
    yield fake_backend("sleeper")
""",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A folder of fake distributions for the command."""
    place = Site(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(place.folder))
    yield place.install("fake_good")
    place.forget()


@pytest.mark.parametrize("module", SLEEPS)
def test_a_plugin_that_sleeps_is_one_row_with_a_warning(site: Site, run_apart: Callable[..., Any], module: str) -> None:
    (site.folder / f"{module}.py").write_text(SLEEPS[module], encoding="utf-8")
    site.describe(module)
    ran = run_apart("list-backends", "--json")
    assert (ran.code, ran.err) == (0, "")
    (row,) = [row for row in json.loads(ran.out) if row["plugin"] == module]
    assert row["status"] == "ok"
    assert row["reason"].startswith("took 1.")
    assert row["reason"].endswith(" s to describe its backends; its authors should do that work in load")
    assert [backend["name"] for backend in row["backends"]] == ["sleeper"]
    (line,) = [line for line in run_apart("list-backends").out.splitlines() if line.startswith(f"({module})")]
    assert "warning" in line
    ran = run_apart("rank", "a cat", "a dog", "a cat", "--model", "good", "--format", "tsv")
    assert (ran.code, ran.err) == (0, "")


def test_a_plugin_in_the_way_never_takes_a_name_of_ours(site: Site, run_apart: Callable[..., Any]) -> None:
    """Ours are described first, whatever a stranger's distribution is called."""
    pytest.importorskip("rerank_onnx")
    (site.folder / "aaa_thief.py").write_text(
        "from rerank import hookimpl\nfrom rerank.testing.fake import fake_backend\n\n"
        "@hookimpl\ndef rerank_register_backends():\n    yield fake_backend('onnx')\n",
        encoding="utf-8",
    )
    site.describe("aaa_thief")
    rows = {row["plugin"]: row for row in json.loads(run_apart("list-backends", "--json").out)}
    assert rows["onnx"]["status"] == "ok"
    assert rows["aaa_thief"]["status"] == "failed"
    assert (
        "'onnx' of aaa-thief is taken by rerank-onnx: rename or uninstall one of the two" in rows["aaa_thief"]["reason"]
    )
