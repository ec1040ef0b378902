"""The plugin template as its user works with it: rendered, built, installed beside our wheels, and tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

cookiecutter = pytest.importorskip("cookiecutter.main", reason="needs cookiecutter, as `nox -s docs` installs it")


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with core's wheel and the rendered plugin's; returns its folder of commands."""
    folder = tmp_path_factory.mktemp("template")
    context = {"name": "rerank-acme", "summary": "Acme's words"}
    template = str(ROOT / "templates" / "rerank-plugin")
    rendered = Path(cookiecutter.cookiecutter(template, no_input=True, extra_context=context, output_dir=str(folder)))
    wheels = folder / "wheels"
    for project in (ROOT / "core", rendered):
        run(sys.executable, "-m", "build", "-q", "--no-isolation", "--wheel", "--outdir", wheels, project, cwd=folder)
    run(sys.executable, "-m", "venv", folder / "fresh", cwd=folder)
    commands = folder / "fresh" / "bin"
    run(commands / "pip", "install", "-q", "--find-links", wheels, "rerank-acme[test]", cwd=folder)
    return commands


def test_it_is_listed(environment: Path) -> None:
    plugins = json.loads(run(environment / "rerank", "list-backends", "--json", cwd=environment))
    assert [(p["distribution"], p["status"], p["reason"]) for p in plugins] == [("rerank-acme", "ok", "")]
    assert [backend["name"] for backend in plugins[0]["backends"]] == ["acme"]


def test_it_ranks(environment: Path) -> None:
    out = run(
        environment / "rerank",
        "rank",
        "bees dance",
        "shares rose",
        "bees dance",
        "-m",
        "acme",
        "-f",
        "jsonl",
        cwd=environment,
    )
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["bees dance", "shares rose"]


def test_it_passes_the_contract(environment: Path) -> None:
    tests = environment.parents[1] / "rerank-acme" / "tests"
    out = run(environment / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, cwd=environment.parents[1])
    assert " passed" in out
    assert "failed" not in out
