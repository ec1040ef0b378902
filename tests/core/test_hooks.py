"""Every hook is documented, has an example that runs, and is exercised."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import PLUGINS, Site

from rerank import Registry, Reranker, hookspecs

HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and hasattr(function, f"{hookspecs.NAME}_spec")
}


def test_the_hooks_are_these() -> None:
    assert set(HOOKS) == {"rerank_register_backends", "rerank_register_commands"}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_documented_and_says_when_it_is_called(name: str) -> None:
    told = inspect.cleandoc(HOOKS[name].__doc__ or "")
    assert len(told.splitlines()) >= 3
    assert "Called" in told


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_exercised_by_a_plugin_of_the_tests(name: str) -> None:
    assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in PLUGINS.glob("*.py"))


def test_both_hooks_are_called(site: Site, run: Callable[..., Any]) -> None:
    site.install("fake_good")
    assert run("rank", "cat", "a dog", "a cat", "-m", "good", "-f", "tsv").out.splitlines()[1].endswith("a cat")
    assert run("greet").out == "hello\n"


def test_the_name_is_defined_once() -> None:
    package = Path(hookspecs.__file__).parent
    users = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"""(group|PluginManager|HookspecMarker)\(?=?["']rerank["']""", path.read_text(encoding="utf-8"))
    ]
    assert users == []
    assert hookspecs.NAME == "rerank"


def test_the_plugin_of_the_documentation_runs_as_it_stands(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", hookspecs.__doc__ or "", re.DOTALL)
    (site.folder / "rerank_shortest.py").write_text(code, encoding="utf-8")
    site.describe("rerank_shortest")
    registry = Registry()
    registry.discover()
    (row,) = [plugin for plugin in registry.plugins if plugin.name == "rerank_shortest"]
    assert (row.status, row.reason, row.backends) == ("ok", "", ["shortest"])
    with Reranker("shortest", registry=registry) as reranker:
        assert [result.text for result in reranker.rank("q", ["long text", "text"])] == ["text", "long text"]
    sys.modules.pop("rerank_shortest")
