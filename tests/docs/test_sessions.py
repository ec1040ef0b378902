"""CI, the workflow and the documentation call sessions that exist, on the interpreters and tools that the repository names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nox", reason="needs nox, as `nox -s docs` installs it")
yaml = pytest.importorskip("yaml", reason="needs pyyaml, as `nox -s docs` installs it")

ROOT = Path(__file__).parents[2]
CI = ROOT / ".ci" / "run"
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
CALLERS = [CI, WORKFLOW, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
CALL = re.compile(r"nox (-[st]) ([a-z_]+(?: [a-z_]+)*)")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def selected(*arguments: str) -> set[str]:
    """The names of the sessions that nox would run."""
    command = [sys.executable, "-m", "nox", "--noxfile", str(ROOT / "noxfile.py"), "--list", *arguments]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^\* ([\w.-]+)", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("caller", CALLERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_session_that_is_named_exists(caller: Path) -> None:
    for kind, names in sorted(set(CALL.findall(read(caller)))):
        assert selected(kind, *names.split()), f"{caller} names {names}"


def test_the_workflow_tests_three_systems_with_every_supported_python() -> None:
    jobs: dict[str, Any] = yaml.safe_load(read(WORKFLOW))["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    supported = re.findall(r"Python :: (3\.\d+)", read(ROOT / "core" / "pyproject.toml"))
    assert matrix["python"] == supported
    (installed,) = (step["with"]["python-version"] for step in jobs["full"]["steps"] if "with" in step)
    assert sorted(installed.split(), key=supported.index) == supported


def test_the_workflow_runs_every_check_that_ci_runs() -> None:
    """The sessions of CI are nox's default ones and those of the tag ``full``."""
    in_workflow = [selected(kind, *names.split()) for kind, names in CALL.findall(read(WORKFLOW))]
    assert set().union(*in_workflow) == selected() | selected("-t", "full")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    steps = read(CI).splitlines()
    first = steps.index("python3 -m venv .venv")
    assert " && ".join(steps[first : first + 3]) + "\n```" in read(ROOT / "README.md")
    assert steps[first + 3 :] == [".venv/bin/nox -t full"]


def test_pre_commit_runs_the_pinned_ruff() -> None:
    (repository,) = yaml.safe_load(read(ROOT / ".pre-commit-config.yaml"))["repos"]
    (pinned,) = re.findall(r"^ruff==.*$", read(ROOT / "constraints.txt"), re.MULTILINE)
    assert [hook["additional_dependencies"] for hook in repository["hooks"]] == [[pinned]] * 2
