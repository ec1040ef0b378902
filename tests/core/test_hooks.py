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

from rerank import Registry, Reranker, hookspecs, installed
from rerank.plugin import Plugin

HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and hasattr(function, f"{hookspecs.NAME}_spec")
}


def test_the_hooks_are_these() -> None:
    assert set(HOOKS) == {"rerank_register_backends", "rerank_register_commands", "rerank_add_hooks"}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_documented_and_says_when_it_is_called(name: str) -> None:
    docstring = inspect.cleandoc(HOOKS[name].__doc__ or "")
    assert len(docstring.splitlines()) >= 3
    assert "Called" in docstring


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_exercised_by_a_plugin_of_the_tests(name: str) -> None:
    assert any(f"def {name}(" in path.read_text(encoding="utf-8") for path in PLUGINS.glob("*.py"))


def test_hooks_are_called(site: Site, run: Callable[..., Any]) -> None:
    site.install("fake_good")
    assert run("rank", "cat", "a dog", "a cat", "-m", "good", "-f", "tsv").out.splitlines()[1].endswith("a cat")
    assert run("greet").out == "hello\n"


# hooks of plugins

MISSPELT = """
from rerank import hookimpl
from rerank.testing.fake import fake_backend

@hookimpl{marks}
def {hook}():
    return ["word"]

@hookimpl
def rerank_register_backends():
    yield fake_backend("works")
"""


def implement(site: Site, name: str, hook: str, marks: str = "") -> Plugin:
    """Install a plugin with one hook, beside one that defines ``rerank_register_words``; returns its row."""
    site.install("fake_hooks")
    (site.folder / f"{name}.py").write_text(MISSPELT.format(hook=hook, marks=marks), encoding="utf-8")
    site.describe(name)
    return next(plugin for plugin in installed().plugins if plugin.name == name)


@pytest.mark.parametrize("name", ["a_first", "z_last"])
def test_a_plugin_implements_the_hook_of_another_whichever_comes_first(site: Site, name: str) -> None:
    row = implement(site, name, "rerank_register_words")
    assert (row.status, row.reason) == ("ok", "")
    assert installed().find("wordy").read_notes() == [f"word of {name.replace('_', '-')}"]


@pytest.mark.parametrize("name", ["a_first", "z_last"])
@pytest.mark.parametrize(
    ("hook", "known"),
    [
        ("rerank_register_backend", "rerank_register_backends"),
        ("rerank_register_word", "rerank_register_words"),
        ("rerank_add_hook", "rerank_add_hooks"),
    ],
)
def test_a_misspelt_hook_is_a_row_with_its_reason(site: Site, name: str, hook: str, known: str) -> None:
    row = implement(site, name, hook)
    assert (row.status, row.backends) == ("failed", [])
    assert row.reason == f"there is no hook {hook!r}: did you mean {known!r}?"
    assert installed().find("wordy").read_notes() == []


def test_an_unknown_hook_lists_those_there_are(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RERANK_DISABLE_PLUGINS")
    row = implement(site, "fake_stranger", "someone_elses_hook")
    assert row.status == "failed"
    assert row.reason.startswith("there is no hook 'someone_elses_hook': choose one of rerank_add_hooks, rerank_")
    assert "rerank_register_words" in row.reason
    assert row.reason.endswith(", or install the plugin that defines it")


def test_an_unknown_hook_that_is_optional_is_no_fault(site: Site) -> None:
    row = implement(site, "fake_stranger", "someone_elses_hook", marks="(optionalhook=True)")
    assert (row.status, row.reason, row.backends) == ("ok", "", ["works"])


def test_the_hook_of_a_disabled_plugin_is_not_called_misspelt(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "fake_hooks")
    row = implement(site, "fake_stranger", "rerank_register_words")
    assert (row.status, row.backends) == ("ok", ["works"])
    assert row.reason == (
        "its hook 'rerank_register_words' is never called: enable or fix fake-hooks (disabled) if it is defined "
        "there, otherwise correct the name"
    )


def test_two_plugins_with_one_hook(site: Site) -> None:
    code = (PLUGINS / "fake_hooks.py").read_text(encoding="utf-8").replace('"wordy"', '"wordier"')
    (site.folder / "fake_hooks_again.py").write_text(code, encoding="utf-8")
    site.describe("fake_hooks_again")
    site.install("fake_hooks")
    rows = {plugin.name: plugin for plugin in installed().plugins}
    assert rows["fake_hooks"].status == "ok"
    assert rows["fake_hooks_again"].status == "failed"
    assert rows["fake_hooks_again"].reason == (
        "fake_hooks_again cannot add the hook 'rerank_register_words', which fake-hooks defines: give it another name, "
        "or uninstall one of the two"
    )


def test_a_hook_with_arguments_that_it_does_not_have(site: Site) -> None:
    site.install("fake_hooks")
    code = "from rerank import hookimpl\n\n@hookimpl\ndef rerank_register_words(language):\n    return []\n"
    (site.folder / "fake_wordy.py").write_text(code, encoding="utf-8")
    site.describe("fake_wordy")
    rows = {plugin.name: plugin for plugin in installed().plugins}
    assert rows["fake_hooks"].status == "ok"
    assert rows["fake_wordy"].status == "failed"
    assert "language" in rows["fake_wordy"].reason


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
