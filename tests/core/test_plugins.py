"""Plugins are found through entry points. A broken one becomes a row with its reason, and breaks nothing else."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from fake_plugins import ALL, Site

from rerank import BackendNotFoundError, Registry, Reranker, installed
from rerank.plugin import Plugin
from rerank.testing.fake import fake_registry

REASONS = {
    "fake_import_error": r"ImportError: needs libfancy: pip install fancy",
    "fake_exit": r"SystemExit: usage: fake_exit FILE",
    "fake_hook_raises": r"ValueError: no table today",
    "fake_hook_raises_midway": r"ValueError: no more",
    "fake_taken": r"the name 'goodie' of fake-taken is taken by fake-good: rename or uninstall one of the two",
    "fake_add_hooks_raises": "no_hooks has no hooks to add: mark functions",
    "fake_protocol": r"backend 'later' uses plugin protocol 2, but this core uses 1: upgrade rerank-core",
    "fake_no_backend": r"\{'name': 'dict'\} is not a rerank.Backend: yield Backend",
    "fake_no_iterable": r"TypeError: .*not iterable",
    "fake_wrong_arguments": r"PluginValidationError: .*config",
}
"""What stands in the row of each plugin that cannot be used."""

COMMAND_TAKEN = (
    "adding its commands: the command 'greet' of fake-takes-command is taken by fake-good: "
    "rename or uninstall one of the two"
)


def discover(site: Site) -> tuple[Registry, dict[str, Plugin]]:
    """A fresh registry and the rows of the fake plugins."""
    registry = Registry()
    registry.discover()
    return registry, {plugin.name: plugin for plugin in registry.plugins if plugin.name.startswith("fake_")}


def test_a_good_plugin(site: Site) -> None:
    registry, rows = discover(site.install("fake_good"))
    row = rows["fake_good"]
    assert (row.distribution, row.version, row.status, row.reason) == ("fake-good", "1.0", "ok", "")
    assert row.backends == ["good"]
    assert row.seconds > 0
    with Reranker("good", registry=registry) as reranker:
        assert reranker.rank("a", ["b", "a"])[0].text == "a"


@pytest.mark.parametrize("module", REASONS)
def test_a_broken_plugin_is_one_row_with_its_reason(site: Site, module: str) -> None:
    registry, rows = discover(site.install("fake_good", module))
    assert [plugin.name for plugin in registry.plugins if plugin.name == module] == [module]
    assert rows[module].status == "failed"
    assert re.search(REASONS[module], rows[module].reason)
    assert rows["fake_good"].status == "ok"
    assert registry.find("good").name == "good"


def test_all_together_the_good_ones_still_work(site: Site) -> None:
    shutil.copy(Path(__file__), site.folder / "torch_is_never_imported.py")
    _, rows = discover(site.install(*(module for module in ALL if module != "fake_heavy")))
    failed = {name for name, row in rows.items() if row.status == "failed"}
    assert failed == set(REASONS)
    assert rows["fake_good"].backends == ["good"]


def test_a_plugin_that_failed_midway_brings_nothing(site: Site) -> None:
    registry, rows = discover(site.install("fake_hook_raises_midway"))
    assert (rows["fake_hook_raises_midway"].status, rows["fake_hook_raises_midway"].backends) == ("failed", [])
    assert "midway" not in registry.backends


def test_a_plugin_without_hooks_is_ok_and_empty(site: Site) -> None:
    _, rows = discover(site.install("fake_empty"))
    assert (rows["fake_empty"].status, rows["fake_empty"].backends) == ("ok", [])


def test_an_older_protocol_asks_to_upgrade_the_plugin(site: Site) -> None:
    site.install("fake_protocol")
    module = site.folder / "fake_protocol.py"
    module.write_text(module.read_text(encoding="utf-8").replace("protocol=2", "protocol=0"), encoding="utf-8")
    _, rows = discover(site)
    assert rows["fake_protocol"].reason.endswith("upgrade the plugin")


def test_an_entry_point_that_leads_nowhere(site: Site) -> None:
    site.describe("fake_absent")
    _, rows = discover(site.install("fake_good"))
    assert "No module named 'fake_absent'" in rows["fake_absent"].reason
    assert rows["fake_good"].status == "ok"


@pytest.mark.parametrize("metadata", [None, "", "Metadata-Version: 2.1\nName: {}\n"])
def test_a_distribution_with_damaged_metadata_breaks_nothing(site: Site, metadata: str | None) -> None:
    site.describe("fake_damaged", metadata=metadata)
    registry, rows = discover(site.install("fake_good"))
    assert rows["fake_good"].status == "ok"
    assert "fake_damaged" in rows
    assert registry.find("good").name == "good"


def test_a_folder_listed_twice_is_one_row(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site.folder) + "/")
    registry, rows = discover(site.install("fake_good"))
    assert [plugin.name for plugin in registry.plugins].count("fake_good") == 1
    assert rows["fake_good"].status == "ok"


@pytest.mark.parametrize("named", ["fake_good", "fake-good", " fake_good , other", "all"])
def test_plugins_can_be_left_out(site: Site, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", named)
    registry, rows = discover(site.install("fake_good", "fake_import_error"))
    assert (rows["fake_good"].status, rows["fake_good"].reason) == ("disabled", "by RERANK_DISABLE_PLUGINS")
    assert "good" not in registry.backends
    assert (rows["fake_import_error"].status == "disabled") == (named == "all")


def test_what_is_left_out_is_not_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "fake_exit")
    _, rows = discover(site.install("fake_exit"))
    assert rows["fake_exit"].seconds == 0


def test_a_broken_plugin_is_logged_not_printed(
    site: Site, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, logger="rerank"):
        discover(site.install("fake_import_error"))
    assert "plugin fake_import_error of fake-import-error cannot be used: ImportError" in caplog.text
    assert capsys.readouterr() == ("", "")


def test_a_command_hook_that_fails_leaves_the_others(site: Site) -> None:
    import click

    registry, rows = discover(site.install("fake_command_raises", "fake_command_exits", "fake_good"))
    group = click.Group()
    registry.register_commands(group)
    assert list(group.commands) == ["greet"]
    assert rows["fake_command_raises"].reason == "adding its commands: RuntimeError: no terminal today"
    assert rows["fake_command_exits"].reason == "adding its commands: SystemExit: 3"
    assert registry.find("commandless").name == "commandless"


def test_a_command_that_is_taken_names_both(site: Site) -> None:
    import click

    registry, rows = discover(site.install("fake_good", "fake_takes_command"))
    registry.register_commands(click.Group())
    assert (rows["fake_good"].status, rows["fake_takes_command"].status) == ("ok", "failed")
    assert rows["fake_takes_command"].reason == COMMAND_TAKEN


@pytest.fixture
def everything(site: Site) -> Site:
    """Every fake plugin, and a module that only calls itself torch."""
    (site.folder / "torch.py").write_text('"""Not that torch."""\n', encoding="utf-8")
    return site.install(*ALL)


def test_list_backends_as_json_shows_each_once(everything: Site, run_apart: Callable[..., Any]) -> None:
    ran = run_apart("list-backends", "--json")
    assert ran.code == 0
    listed = json.loads(ran.out)
    rows = {row["plugin"]: row for row in listed if row["plugin"].startswith("fake_")}
    assert sorted(rows) == ALL
    assert len([row for row in listed if row["plugin"].startswith("fake_")]) == len(ALL)
    for module, reason in REASONS.items():
        assert rows[module]["status"] == "failed"
        assert re.search(reason, rows[module]["reason"])
    assert rows["fake_command_raises"]["reason"] == "adding its commands: RuntimeError: no terminal today"
    assert rows["fake_command_exits"]["reason"] == "adding its commands: SystemExit: 3"
    assert rows["fake_takes_command"]["reason"] == COMMAND_TAKEN
    assert rows["fake_heavy"]["status"] == "ok"
    assert rows["fake_heavy"]["reason"].startswith("imports torch to describe its backends")
    good = rows["fake_good"]
    assert (good["status"], good["reason"], good["distribution"], good["version"]) == ("ok", "", "fake-good", "1.0")
    (backend,) = good["backends"]
    assert backend["name"] == "good"
    assert backend["aliases"] == {"goodie": {"en": "good", "fr": "good-fr"}}
    assert "weight" in backend["options"]


def test_list_backends_as_a_table_shows_each_with_its_reason(everything: Site, run_apart: Callable[..., Any]) -> None:
    ran = run_apart("list-backends")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0].split() == ["backend", "distribution", "status"]
    for module, reason in REASONS.items():
        (line,) = [line for line in lines if line.startswith(f"({module})")]
        assert "failed" in line
        assert re.search(reason, line)
    assert next(line for line in lines if line.startswith("good ")).split()[1:4] == ["fake-good", "1.0", "ok"]
    (heavy,) = [line for line in lines if line.startswith("(fake_heavy)")]
    assert "warning" in heavy
    assert "imports torch" in heavy
    (empty,) = [line for line in lines if line.startswith("(fake_empty)")]
    assert "registers no backend" in empty


def test_list_backends_folds_many_notes_unless_asked(site: Site, run_apart: Callable[..., Any]) -> None:
    site.install("fake_noted")
    few, many = ["  one: a note", "  two: another"], ["  seen: 1", "  seen: 2", "  seen: 3", "  seen: 4"]
    folded, whole = run_apart("list-backends").out.splitlines(), run_apart("list-backends", "--notes").out.splitlines()
    at = folded.index(next(line for line in folded if line.startswith("few")))
    assert folded[at + 1 : at + 3] == few
    assert folded[at + 4] == "  seen, seen, seen, seen (--notes shows each)"
    assert not set(many) & set(folded)
    assert set(few + many) <= set(whole)


def test_without_any_plugin_the_next_step_is_shown(run_apart: Callable[..., Any]) -> None:
    listed = run_apart("list-backends", RERANK_DISABLE_PLUGINS="all")
    assert listed.code == 0
    ran = run_apart("rank", "q", "a", "b", RERANK_DISABLE_PLUGINS="all")
    assert ran.code == 1
    if any(plugin.distribution == "rerank-nano" for plugin in installed().plugins):
        assert "pip install" not in ran.err
        assert "rerank-nano is installed but disabled" in ran.err
    else:
        assert "pip install rerank-nano" in ran.err


def ours(status: Literal["ok", "failed", "disabled"], reason: str = "") -> Registry:
    """A registry that knows of rerank-onnx, and not of its backend."""
    registry = Registry()
    registry.plugins.append(
        Plugin(name="onnx", distribution="rerank-onnx", version="0.1.0", status=status, reason=reason)
    )
    return registry


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        (Registry(), "pip install rerank-onnx"),
        (
            ours("disabled", "by RERANK_DISABLE_PLUGINS"),
            "rerank-onnx is installed but disabled (by RERANK_DISABLE_PLUGINS): change that variable",
        ),
        (
            ours("failed", "ImportError: no numpy"),
            "rerank-onnx is installed but failed (ImportError: no numpy): fix that, or uninstall it",
        ),
        (ours("ok"), "rerank-onnx 0.1.0 does not have it yet: pip install --upgrade rerank-onnx"),
    ],
)
def test_how_to_get_a_backend_of_ours_depends_on_what_is_installed(registry: Registry, message: str) -> None:
    with pytest.raises(BackendNotFoundError) as caught:
        registry.find("onnx")
    assert str(caught.value) == f"no installed backend is called 'onnx': {message}"


@pytest.mark.parametrize(
    ("registry", "message"),
    [
        (ours("disabled", "by …"), ", or change RERANK_DISABLE_PLUGINS, which disables rerank-onnx"),
        (ours("failed", "ImportError: no numpy"), ", or fix rerank-onnx (ImportError: no numpy)"),
        (ours("ok"), "rerank-llm (t5, llm-pointwise, llm-layerwise, llm-lightweight)"),
    ],
)
def test_what_is_installed_is_not_to_be_installed(registry: Registry, message: str) -> None:
    with pytest.raises(BackendNotFoundError) as caught:
        Reranker("some model", registry=registry)
    step = str(caught.value).partition("pip install ")[2]
    assert step.endswith(message)
    assert "rerank-onnx" not in step.removesuffix(message)


@pytest.mark.parametrize("name", ["t5", "colbert", "rankgpt"])
def test_nothing_is_recommended_that_does_not_exist(name: str) -> None:
    for arguments in ({"model": name}, {"model": "m", "model_type": name}):
        with pytest.raises(BackendNotFoundError) as caught:
            Reranker(**arguments, registry=fake_registry(), local_files_only=True)
        named = set(re.findall(r"rerank-\w+", str(caught.value)))
        assert named <= {
            "rerank-colbert",
            "rerank-crossencoder",
            "rerank-onnx",
            "rerank-nano",
            "rerank-api",
            "rerank-llm",
            "rerank-listwise",
        }
