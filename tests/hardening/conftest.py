"""Every installed backend with a small model, and the command."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rerank import Reranker
from rerank import cli as command_line
from rerank import registry as registries

TESTS = Path(__file__).parents[1]
BACKENDS = ("nano", "onnx", "cross-encoder", "api", "llm-listwise", "llm-filter")
LOCAL = ("nano", "onnx", "cross-encoder")
KEY = "sk-hardening-1618033988"


def load_builders(folder: str) -> ModuleType:
    """The builders of small checkpoints that another folder of tests keeps in its ``conftest.py``."""
    name = f"builders_of_{folder}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TESTS / folder / "conftest.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


core = load_builders("core")
run, run_apart = core.run, core.run_apart


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What torch, transformers and Cohere's SDK warn of is theirs; ours stay errors."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for said in (
                "ignore:.*(swig|Swig|SwigPy).*:DeprecationWarning",
                "ignore::FutureWarning:transformers",
                "ignore::DeprecationWarning:torch",
                "ignore::DeprecationWarning:cohere",
                "ignore::DeprecationWarning:fastavro",
                "ignore:.*TF32.*:UserWarning",
            ):
                item.add_marker(pytest.mark.filterwarnings(said))


@dataclass(frozen=True)
class Subject:
    """A backend under test: how to build it in the library, and how to name it to the command."""

    backend: str
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, **more: Any) -> Reranker:
        return Reranker(self.model, backend=self.backend, **{**self.options, **more})

    @property
    def arguments(self) -> list[str]:
        named = ["--model", self.model, "--backend", self.backend]
        for name, value in self.options.items():
            named += ["--option", f"{name}={value}"]
        return named


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ONNX cross-encoder."""
    pytest.importorskip("rerank_onnx")
    onnx = pytest.importorskip("onnx")
    builders = load_builders("rerank_onnx")
    folder = tmp_path_factory.mktemp("onnx")
    tokenizer = builders.make_tokenizer("bert")
    onnx.save(builders.build_graph(builders.make_weights(tokenizer.get_vocab_size(), 1, 0)), folder / "model.onnx")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": builders.POSITIONS}), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def torch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small cross-encoder of transformers."""
    pytest.importorskip("rerank_crossencoder")
    folder: Path = load_builders("rerank_crossencoder").build_checkpoint(tmp_path_factory.mktemp("bert"), "bert")
    return folder


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """The address of a rerank service on this machine."""
    pytest.importorskip("rerank_api")
    sys.path.append(str(TESTS / "rerank_api"))
    from api_ranking import rerank
    from loopback import Loopback

    server = Loopback(rerank, keep_hits=False)
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def chat_endpoint() -> Iterator[str]:
    """The address of a chat model on this machine."""
    pytest.importorskip("rerank_listwise")
    sys.path += [str(TESTS / "rerank_api"), str(TESTS / "rerank_listwise")]
    from chat_model import answering
    from loopback import Loopback

    server = Loopback(answering(), keep_hits=False)
    yield f"{server.url}/v1"
    server.close()


@pytest.fixture(scope="session")
def subject_of(request: pytest.FixtureRequest) -> Callable[[str], Subject]:
    """``subject_of("onnx")``; skips where the backend is not installed."""

    def find(backend: str) -> Subject:
        if backend == "nano":
            pytest.importorskip("rerank_nano")
            return Subject("nano", "nano")
        if backend == "onnx":
            return Subject("onnx", str(request.getfixturevalue("onnx_folder")))
        if backend == "cross-encoder":
            return Subject("cross-encoder", str(request.getfixturevalue("torch_folder")), {"device": "cpu"})
        if backend.startswith("llm-"):
            url = request.getfixturevalue("chat_endpoint")
            together = {"together": 20} if backend == "llm-filter" else {}
            return Subject(backend, "stand-in", {"base_url": url, "api_key": KEY, **together})
        return Subject("api", "jina", {"url": request.getfixturevalue("service"), "api_key": KEY})

    return find


@pytest.fixture(scope="session", params=BACKENDS)
def subject(request: pytest.FixtureRequest, subject_of: Callable[[str], Subject]) -> Subject:
    """Each backend in turn."""
    return subject_of(request.param)


@pytest.fixture(scope="session", params=LOCAL)
def local(request: pytest.FixtureRequest, subject_of: Callable[[str], Subject]) -> Subject:
    """Each backend that runs a model in this process, in turn."""
    return subject_of(request.param)


@pytest.fixture(scope="session")
def reranker(subject: Subject) -> Iterator[Reranker]:
    """Each backend in turn, loaded."""
    with subject.build() as reranker:
        yield reranker


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugins that are installed, and no proxy between a test and its own server."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("RERANK_DISABLE_PLUGINS", raising=False)
    monkeypatch.setattr(command_line.cli, "commands", {})
    registries._discovered.cache_clear()
    yield
    registries._discovered.cache_clear()
