"""Every snippet of the documentation runs, in order, with a folder per document.

A ``python`` block runs in its document's namespace. A ``python`` or ``toml`` block that begins with ``# file: NAME`` is written
to that file instead. A ``bash`` block runs under ``bash -e`` with this environment's commands first on the path, and a ``text``
block after it is its output, with scores to two places. A snippet that cannot run has a comment above it:
``<!-- not run by the tests: … -->``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("*/README.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]
BLOCK = re.compile(
    r"(?P<comment><!-- not run by the tests: [^\n]*-->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"\d+\.\d+")
NOT_CODE = {"dockerfile"}
COPIED = ["core", "plugins", "examples", "noxfile.py", "constraints.txt", "README.md", "LICENSE", "NOTICE"]


class Snippet(NamedTuple):
    language: str
    code: str
    line: int


def snippets(document: Path) -> list[Snippet]:
    text = document.read_text(encoding="utf-8")
    return [
        Snippet(found["language"], found["code"], text.count("\n", 0, found.start("code")) + 1)
        for found in BLOCK.finditer(text)
        if not found["comment"] and found["language"] not in NOT_CODE
    ]


def scores_in(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of what a reader has: the checkout without its history and caches."""
    for name in COPIED:
        source = ROOT / name
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".nox", ".venv")
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's and transformers' own
def test_snippets_run(
    document: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if re.search('BAAI/|Qwen/|"colbert"', document.read_text(encoding="utf-8")):
        request.getfixturevalue("published")
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))  # where document vectors are kept
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    namespace: dict[str, object] = {"__name__": "__main__"}
    output = ""
    for snippet in snippets(document):
        where = f"{document.relative_to(ROOT)}, line {snippet.line}"
        if named := re.match(r"# file: (\S+)\n", snippet.code):
            (workspace / named[1]).write_text(snippet.code[named.end() :], encoding="utf-8")
        elif snippet.language == "python":
            exec(compile(snippet.code, where, "exec"), namespace)
        elif snippet.language == "bash":
            done = subprocess.run(
                ["bash", "-e", "-c", snippet.code],
                env={**os.environ, "PATH": commands, "PYTHONPATH": "", "COLUMNS": "100"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{where}: {done.stdout}\n{done.stderr}"
            output = done.stdout
        elif snippet.language == "text":
            assert NUMBER.sub("", output.strip()) == NUMBER.sub("", snippet.code.strip()), f"{where} was not printed"
            assert scores_in(output) == pytest.approx(scores_in(snippet.code), abs=0.01), where
        else:
            pytest.fail(f"{where}: a {snippet.language} block is neither run nor written to a file")


def test_the_tutorial_installs_what_it_needs(tmp_path: Path) -> None:
    """A reader follows the page about plugins in an empty environment, with core's wheel in place of the index's."""
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "build", "-q", "--no-isolation", "--wheel", "--outdir", wheels, ROOT / "core"]
    subprocess.run(build, check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "fresh"], check=True)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'fresh' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
        "PIP_FIND_LINKS": str(wheels),
    }

    def follow(command: str) -> subprocess.CompletedProcess[str]:
        bash = ["bash", "-e", "-c", command]
        return subprocess.run(bash, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    for snippet in snippets(ROOT / "docs" / "writing-a-plugin.md"):
        if named := re.match(r"# file: (\S+)\n", snippet.code):
            (tmp_path / named[1]).write_text(snippet.code[named.end() :], encoding="utf-8")
        elif snippet.language == "bash":
            done = follow(snippet.code)
            assert done.returncode == 0, f"line {snippet.line}: {done.stdout}\n{done.stderr}"
    refused = follow("PYTHONPATH=site rerank rank bees flowers shares -m ngram --option long_documents=chunk")
    assert refused.returncode != 0
    assert "documents are read whole: leave it out" in refused.stderr
