"""The command ``rerank``: help, completion, explain, and the commands of plugins."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

from rerank import ModelSource
from rerank import cli as command_line


@pytest.fixture(autouse=True)
def _good(site: Site) -> None:
    site.install("fake_good")


def test_help_lists_commands_exit_codes_and_completion(run: Callable[..., Any]) -> None:
    ran = run("--help")
    assert (ran.code, ran.err) == (0, "")
    for message in (
        *command_line.COMMANDS,
        "greet",
        "Say hello.",
        "Exit codes:",
        "130",
        "141",
        "_RERANK_COMPLETE=bash_source",
    ):
        assert message in ran.out
    assert run("-h").out == ran.out


def test_help_shows_whole_summaries(run: Callable[..., Any]) -> None:
    out = " ".join(run("--help").out.split())
    assert "..." not in out.partition("Commands:")[2].partition("Results go")[0]
    assert "list-backends Show the installed backends, and plugins that failed, with the reason." in out


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_every_command_has_a_help(run: Callable[..., Any], name: str) -> None:
    ran = run(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: rerank {name} [OPTIONS]")
    assert len(ran.out.splitlines()) > 5


def test_help_of_rank_shows_formats_and_examples(run: Callable[..., Any]) -> None:
    out = run("rank", "--help").out
    for message in (
        "[table|json|jsonl|tsv|trec]",
        "[text|jsonl|json|csv|tsv|trec]",
        "--option K=V",
        "--skip-bad-lines",
        "cat notes.txt |",
    ):
        assert message in out


def test_the_version_is_cores(run: Callable[..., Any]) -> None:
    assert importlib.metadata.version("rerank-core") in run("--version").out


def test_python_m_and_the_script_are_one(run_apart: Callable[..., Any]) -> None:
    ran = run_apart("rank", "cat", "a dog", "a cat", "--model", "good")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1].split() == ["1", "1.0000", "1", "a", "cat"]
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="rerank")
    assert script.load() is command_line.main


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(run_apart: Callable[..., Any], shell: str) -> None:
    ran = run_apart(_RERANK_COMPLETE=f"{shell}_source")
    assert "_RERANK_COMPLETE" in ran.out
    assert "rerank" in ran.out


def test_completion_knows_commands_and_those_of_plugins(run_apart: Callable[..., Any]) -> None:
    completing = {"_RERANK_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    assert "plain,rank" in run_apart(**completing, COMP_WORDS="rerank ra").out
    assert "plain,greet" in run_apart(**completing, COMP_WORDS="rerank gr").out


def test_a_plugins_command_runs(run: Callable[..., Any]) -> None:
    assert run("greet").out == "hello\n"
    assert "Say hello." in run("greet", "--help").out


def test_a_plugin_cannot_hide_cores_commands(site: Site, run: Callable[..., Any]) -> None:
    module = site.folder / "fake_good.py"
    module.write_text(module.read_text(encoding="utf-8").replace('"greet"', '"rank"'), encoding="utf-8")
    assert run("rank", "--help").out.startswith("Usage: rerank rank [OPTIONS] QUERY")
    assert [line.split()[0] for line in run("--help").out.splitlines() if line.startswith("  rank ")] == ["rank"]


def test_explain_a_short_name(run: Callable[..., Any]) -> None:
    ran = run("explain", "goodie")
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == "good ('goodie' is short for it)"
    assert lines[1].split()[:3] == ["→", "good", "certain"]
    french = json.loads(run("explain", "goodie", "--lang", "fr", "--json").out)
    assert (french["model"], french["alias"], french["backend"]) == ("good-fr", "goodie", "good")


def test_explain_shows_every_backends_claim_and_why(site: Site, run: Callable[..., Any]) -> None:
    site.install("fake_slow")
    explained = json.loads(run("explain", "good", "--json").out)
    assert explained["backend"] == "good"
    assert explained["error"] is None
    claims = {claim["backend"]: claim for claim in explained["claims"]}
    assert claims["good"] == {"backend": "good", "confidence": "certain", "reason": "by name"}
    assert claims["slow"]["confidence"] == "none"
    assert explained["claims"][0]["backend"] == "good"


def test_explain_takes_the_options_of_the_backend(run: Callable[..., Any]) -> None:
    explained = json.loads(run("explain", "good", "-o", "batch_size=8", "-o", "lang=fr", "--json").out)
    assert explained["options"] == {"batch_size": 8}
    ran = run("explain", "good", "--option", "batchsize=8")
    assert (ran.code, "did you mean 'batch_size'" in ran.err) == (2, True)


def test_explain_a_model_that_nobody_runs(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    ran = run("explain", str(tmp_path))
    assert ran.code == 1
    assert "none" in ran.out
    assert ran.err.startswith("rerank: no installed backend can run model")
    assert "give a checkpoint that has config.json and weights" in ran.err
    as_json = run("explain", str(tmp_path), "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["backend"] is None
    assert "no installed backend" in json.loads(as_json.out)["error"]


@pytest.mark.parametrize("name", ["rank", "explain"])
def test_commands_have_an_option_for_each_argument_of_the_model_source(run: Callable[..., Any], name: str) -> None:
    text = " ".join(run(name, "--help").out.split())
    for argument in fields(ModelSource):
        option = f"--{argument.name.replace('_', '-')}"
        assert (f"{option} " in text) == (argument.name != "model_type")
        if argument.name != "model_type":
            assert argument.metadata["help"] in text


def test_rank_in_another_language(run: Callable[..., Any]) -> None:
    ran = run("rank", "chat", "un chien", "un chat", "--model", "goodie", "--lang", "fr", "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["model"] == "good-fr"


def test_explain_a_backend_that_is_named(site: Site, run: Callable[..., Any]) -> None:
    site.install("fake_slow")
    explained = json.loads(run("explain", "good", "--backend", "slow", "--json").out)
    assert (explained["model"], explained["backend"]) == ("good", "slow")
    absent = run("explain", "good", "--backend", "absent")
    assert absent.code == 1
    assert "no installed backend is called 'absent'" in absent.err


def test_explain_a_model_of_a_provider_asks_for_a_backend_of_services(run: Callable[..., Any]) -> None:
    ran = run("explain", "good", "--api-provider", "acme")
    assert ran.code == 1
    assert "no installed backend calls remote services, which api_provider='acme' needs: " in ran.err


def test_sub_commands_are_imported_on_use(run_apart: Callable[..., Any]) -> None:
    import subprocess
    import sys

    code = "import sys, rerank.cli; print([m for m in sys.modules if m.startswith('rerank.cli.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
