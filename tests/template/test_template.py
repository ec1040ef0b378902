"""The plugin template as its user works with it: rendered, built, installed beside our wheels, and tested."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rerank import installed

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "templates" / "rerank-plugin"

cookiecutter = pytest.importorskip("cookiecutter.main", reason="needs cookiecutter, as `nox -s docs` installs it")
from cookiecutter import environment as environments  # noqa: E402
from cookiecutter.exceptions import FailedHookException  # noqa: E402


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
    rendered = Path(
        cookiecutter.cookiecutter(str(TEMPLATE), no_input=True, extra_context=context, output_dir=str(folder))
    )
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


def hook_says(folder: Path, **context: str) -> str:
    """What the template's hook answers to these names, run as cookiecutter runs it: rendered, in a process of its own."""
    defaults = {"name": "rerank-acme", "summary": "Acme's words", "author": "Zoë O'Neil"}
    given = {**defaults, **context}
    given.setdefault("backend", given["name"].removeprefix("rerank-"))
    given.setdefault("module", given["name"].replace("-", "_"))
    hook = (TEMPLATE / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8")
    rendered = environments.StrictEnvironment(context={"cookiecutter": given}).from_string(hook)
    (folder / "hook.py").write_text(rendered.render(cookiecutter=given), encoding="utf-8")
    done = subprocess.run([sys.executable, "hook.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == bool(done.stderr)
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"name": ""}, "the name '' is not made of words"),
        ({"name": "rerank_acme"}, "the name 'rerank_acme' is not made of words"),
        ({"name": "Rerank-Acme"}, "the name 'Rerank-Acme' is not made of words"),
        ({"name": "rerank-café"}, "the name 'rerank-café' is not made of words"),
        ({"name": "rerank acme"}, "the name 'rerank acme' is not made of words"),
        ({"name": "../rerank-acme"}, "the name '../rerank-acme' is not made of words"),
        ({"name": "rerank\\acme"}, r"the name 'rerank\\\\acme' is not made of words"),
        ({"name": "rerank--acme"}, "the name 'rerank--acme' is not made of words"),
        ({"name": "rerank-"}, "the backend '' is not made of words"),
        ({"name": "rerank-3d"}, "the backend '3d' is not made of words"),
        ({"name": 'rerank-"acme'}, "is not made of words"),
        ({"name": "rerank-core"}, "the name 'rerank-core' is taken by this project: choose another"),
        ({"name": "rerank-cohere"}, "the backend 'cohere' is taken by this project: choose another"),
        ({"name": "class"}, "the module 'class' cannot be imported"),
        ({"name": "json"}, "the module 'json' would hide another"),
        ({"name": "numpy"}, "the name 'numpy' is that of another package"),
        ({"name": "torch"}, "the name 'torch' is that of another package"),
        ({"name": "pip"}, "the name 'pip' is that of another package"),
        ({"name": "sentence-transformers"}, "the name 'sentence-transformers' is that of another package"),
        ({"name": "json"}, "the name 'json' is that of another package"),
        ({"name": "test"}, "the name 'test' is that of another package"),
        ({"name": "numpy", "module": "mine"}, "the name 'numpy' is that of another package"),
        ({"module": "numpy"}, "the module 'numpy' would hide another"),
        ({"module": "test"}, "the module 'test' would hide another"),
        ({"module": "pip"}, "the module 'pip' would hide another"),
        ({"name": "con"}, "the name 'con' is that of a device on Windows"),
        ({"backend": "nul"}, "the backend 'nul' is that of a device on Windows"),
        ({"module": "com1"}, "the module 'com1' is that of a device on Windows"),
        ({"name": "__init__"}, "the name '__init__' is not made of words"),
        ({"module": "__init__"}, "the module '__init__' cannot be imported"),
        ({"module": "__main__"}, "the module '__main__' cannot be imported"),
        ({"module": "import"}, "the module 'import' cannot be imported"),
        ({"module": "match"}, "the module 'match' cannot be imported"),
        ({"name": "rerank-" + "a" * 293}, "the name 'rerank-aaaaaaaaaaaaa'… has 300 letters: write at most 60"),
        ({"backend": "b" * 300}, "the backend 'bbbbbbbbbbbbbbbbbbbb'… has 300 letters"),
        ({"module": "c" * 300}, "the module 'cccccccccccccccccccc'… has 300 letters"),
        ({"module": "rerank"}, "the module 'rerank' would hide another"),
        ({"module": "rerank_onnx"}, "the module 'rerank_onnx' would hide another"),
        ({"module": "rerank-acme"}, "the module 'rerank-acme' cannot be imported"),
        ({"module": "a.b"}, "the module 'a.b' cannot be imported"),
        ({"module": "a/b"}, "the module 'a/b' cannot be imported"),
        ({"module": "1acme"}, "the module '1acme' cannot be imported"),
        ({"summary": ""}, "the summary '' cannot be written into the files"),
        ({"summary": 'the "best"'}, "the summary .* cannot be written into the files"),
        ({"summary": "two\nlines"}, r"the summary 'two\\nlines' cannot be written into the files"),
        ({"author": "back\\slash"}, "the author .* cannot be written into the files"),
    ],
)
def test_broken_names_are_refused(tmp_path: Path, context: dict[str, str], message: str) -> None:
    assert re.search(message, hook_says(tmp_path, **context))


def test_good_names_are_taken(tmp_path: Path) -> None:
    assert hook_says(tmp_path) == ""
    assert hook_says(tmp_path, name="rerank-numpy", backend="torch-words") == ""
    assert hook_says(tmp_path, name="acme-2", summary="Wörter: 検索 – it's fine", backend="acme-two") == ""


def test_a_refused_name_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FailedHookException):
        cookiecutter.cookiecutter(
            str(TEMPLATE), no_input=True, extra_context={"name": "rerank-cohere"}, output_dir=str(tmp_path)
        )
    assert list(tmp_path.iterdir()) == []


def test_every_name_of_ours_is_refused(tmp_path: Path) -> None:
    ours = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert ours == {plugin.distribution for plugin in installed().plugins} | {"rerank-http", "rerank-torch"}
    for name in ours:
        assert "is taken" in hook_says(tmp_path, name=name, module="mine", backend="mine")
    names = {name for backend in installed().backends.values() for name in (backend.name, *backend.aliases)}
    for name in sorted(names):
        assert "the backend" in hook_says(tmp_path, backend=name), name
