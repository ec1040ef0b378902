"""Every check and every command of the repository; the sessions follow from the distributions found here.

nox                  lint, types, tests, tests_torch, isolation, docs and build: what has to pass
nox -s demo          install the light half and rank the example file
nox -s benchmark     tables under benchmarks/results (minutes)
nox -l               all of them
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nox

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
TORCH_PYTHON = "3.11"
CONSTRAINTS = ["-c", "constraints.txt"]

if shutil.which("pyenv"):  # its commands python3.10 … exist for every version and run only for those named here
    found = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    os.environ["PYENV_VERSION"] = ":".join(v for v in found if re.match("|".join(map(re.escape, PYTHONS)) + r"\.", v))

nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "tests_torch", "isolation", "docs", "build"]


class Distribution:
    """One folder with a ``pyproject.toml``."""

    def __init__(self, folder: Path) -> None:
        project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self.folder = folder.relative_to(ROOT).as_posix()
        self.name: str = project["name"]
        self.module = self.name.removesuffix("-core").replace("-", "_")
        self.dependencies: list[str] = project["dependencies"]
        self.requires = {re.split(r"[^\w-]", dependency)[0] for dependency in self.dependencies}
        self.entry_points: dict[str, str] = project.get("entry-points", {}).get("rerank", {})

    @property
    def tests(self) -> str:
        return f"tests/{'core' if self.name == 'rerank-core' else self.module}"


FOLDERS = [ROOT / "core", *sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))]
ALL = {distribution.name: distribution for distribution in map(Distribution, FOLDERS)}


def needs_torch(distribution: Distribution) -> bool:
    """Whether torch is among what it requires, directly or through another distribution of ours."""
    return "torch" in distribution.requires or any(
        needs_torch(ALL[name]) for name in distribution.requires if name in ALL
    )


LIGHT = [distribution for distribution in ALL.values() if not needs_torch(distribution)]
HEAVY = [distribution for distribution in ALL.values() if needs_torch(distribution)]
TEST_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "onnx", "ir-measures"]


def install(session: nox.Session, distributions: list[Distribution], *tools: str) -> None:
    """Install distributions editable, core first with its extras, and tools beside them."""
    editable = [f"-e{d.folder}" + ("[hub,test]" if d.name == "rerank-core" else "") for d in distributions]
    session.install("-q", *CONSTRAINTS, *editable, *tools)


def run_tests(session: nox.Session, distributions: list[Distribution], *more: str) -> None:
    """Run the distributions' own tests on all cores, or what the command line names instead."""
    folders = [d.tests for d in distributions if any((ROOT / d.tests).glob("test_*.py"))]
    session.run("pytest", "-n", "auto", *(session.posargs or [*folders, *more]))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("-q", *CONSTRAINTS, "ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types of every distribution."""
    install(session, list(ALL.values()), "mypy", *TEST_TOOLS)
    session.run("mypy", *(f"{d.folder}/src" for d in ALL.values()))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Core and the torch-free plugins, where torch is not installed."""
    install(session, LIGHT, *TEST_TOOLS)
    session.run("python", "-c", "import importlib.util as i; assert i.find_spec('torch') is None, 'torch is here'")
    run_tests(session, LIGHT)


@nox.session(python=TORCH_PYTHON)
def tests_torch(session: nox.Session) -> None:
    """The torch plugins, the ONNX graphs beside torch's own forward, and hostile input on every backend."""
    install(session, list(ALL.values()), "onnxscript", *TEST_TOOLS)
    run_tests(session, HEAVY, "tests/rerank_onnx/test_transformers.py", "tests/hardening")


@nox.session
def bounds(session: nox.Session) -> None:
    """The tests once more, with the oldest release that each distribution says it supports."""
    install(session, LIGHT, *TEST_TOOLS, *oldest(LIGHT))
    run_tests(session, LIGHT)


@nox.session(python=TORCH_PYTHON)
def bounds_torch(session: nox.Session) -> None:
    """The torch plugins' tests with the oldest transformers that they support; torch is that of the constraints."""
    install(session, list(ALL.values()), *TEST_TOOLS, *(r for r in oldest(HEAVY) if not r.startswith("torch")))
    run_tests(session, HEAVY)


def oldest(distributions: list[Distribution]) -> list[str]:
    """The lowest release of each dependency that distributions of ours allow."""
    theirs = {d for dist in distributions for d in dist.dependencies if not d.startswith("rerank")}
    return sorted(dependency.replace(">=", "==").split(",")[0] for dependency in theirs)


@nox.session
def isolation(session: nox.Session) -> None:
    """Each distribution's wheel, alone in a fresh environment: the command runs and lists its backends."""
    wheels = Path(session.create_tmp()) / "wheels"
    build_into(session, wheels)
    for name in session.posargs or ALL:
        environment = Path(session.create_tmp()) / name
        session.run("python", "-m", "venv", "--clear", str(environment), silent=True)
        bin_folder = environment / ("Scripts" if os.name == "nt" else "bin")
        pip = [str(bin_folder / "pip"), "install", "-q", "--disable-pip-version-check"]
        session.run(*pip, *CONSTRAINTS, "--find-links", str(wheels), name, external=True)
        session.run(str(bin_folder / "rerank"), "list-backends", external=True)
        session.run(str(bin_folder / "python"), "-c", HEALTHY, *ALL[name].entry_points, external=True)
        shutil.rmtree(environment)


HEALTHY = """
import sys
from rerank.registry import installed

plugins = installed().plugins
unhealthy = [plugin for plugin in plugins if plugin.status != "ok" or plugin.reason]
missing = set(sys.argv[1:]) - {plugin.name for plugin in plugins}
sys.exit(f"unhealthy: {unhealthy}, missing: {missing}" if unhealthy or missing else 0)
"""


@nox.session
def docs(session: nox.Session) -> None:
    """Every snippet of the documentation and the template of a plugin, run."""
    install(session, list(ALL.values()), "nox", "build", "hatchling", "cookiecutter", "pdoc", *TEST_TOOLS)
    session.run("pytest", "-n", "auto", *(session.posargs or ["tests/docs", "tests/template", "tests/release"]))


@nox.session
def build(session: nox.Session) -> None:
    """All wheels and source archives into dist/, checked."""
    session.install("-q", "twine", "check-wheel-contents")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    wheels = ROOT / "dist"
    build_into(session, wheels, "--sdist", "--wheel")
    session.run("twine", "check", "--strict", *map(str, sorted(wheels.iterdir())))
    session.run("check-wheel-contents", *map(str, sorted(wheels.glob("*.whl"))))


@nox.session
def reference(session: nox.Session) -> None:
    """The reference of the public API, from its docstrings, as pages under dist/reference."""
    install(session, list(ALL.values()), "pdoc")
    modules = [d.module for d in ALL.values()]
    session.run("pdoc", "--docformat", "google", "--output-directory", "dist/reference", *modules, "rerank.testing")


@nox.session
def release(session: nox.Session) -> None:
    """Build and check what would be published; without ``--check``, also tag the version and upload with twine."""
    build(session)
    session.run("python", "tests/release/check.py", "dist")
    if changed := session.run("git", "status", "--porcelain", silent=True, external=True):
        session.error(f"the working tree is not clean:\n{changed}commit or remove these first")
    if "--check" in session.posargs:
        return
    version = next((ROOT / "dist").glob("*.whl")).name.split("-")[1]
    session.run("git", "tag", "-a", f"v{version}", "-m", version, external=True)
    session.run("twine", "upload", *(str(p) for p in sorted((ROOT / "dist").iterdir()) if p.is_file()))


@nox.session
def demo(session: nox.Session) -> None:
    """The README's first command, in an environment of its own."""
    session.install("-q", *(f"./{ALL[name].folder}" for name in ("rerank-core", "rerank-onnx", "rerank-nano")))
    session.run(
        "rerank",
        "rank",
        "what lifts a sourdough loaf when no yeast is added?",
        "examples/passages.jsonl",
        "--top-k",
        "3",
    )


@nox.session
def faults(session: nox.Session) -> None:
    """2,000 calls through a faulty server on loopback; writes benchmarks/results/api_faults.md."""
    install(session, [ALL["rerank-core"], ALL["rerank-http"], ALL["rerank-api"]], *TEST_TOOLS)
    session.run("python", "benchmarks/api_faults.py", "--calls", "2000", *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """The tables under benchmarks/results; name benchmarks to run only those."""
    install(session, list(ALL.values()), "onnxscript", "sentence-transformers", *TEST_TOOLS)
    for script in session.posargs or sorted(map(str, (ROOT / "benchmarks").glob("*.py"))):
        session.run("python", script)


def build_into(session: nox.Session, folder: Path, *kinds: str) -> None:
    """Build every distribution into a folder: its wheel, or the ``kinds`` named."""
    session.install("-q", "build", "hatchling")
    for distribution in ALL.values():
        command = ["python", "-m", "build", "--no-isolation", "--outdir", str(folder), *(kinds or ["--wheel"])]
        session.run(*command, distribution.folder, silent=True)
