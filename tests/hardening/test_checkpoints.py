"""Folders without a checkpoint, truncated files, files of another kind, and backends that are not installed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank import BackendNotFoundError, ModelLoadError, Registry, Reranker, RerankError
from rerank.distributions import DISTRIBUTIONS

QUERY = "how do bees find flowers?"
TEXTS = ["A bee finds flowers by their colour.", "Shares rose.", "a", ""]
NEXT_STEP = re.compile(
    r"[:;,] (or )?(\w+ )?(fetch|pip install|check|give|pass|export|convert|save|choose|use|take|try|install)\b[^:]*$"
)
FILES = {"onnx": "model.onnx", "cross-encoder": "model.safetensors"}
"""The weights of each backend that reads checkpoints."""


@pytest.fixture(params=FILES)
def copy(request: pytest.FixtureRequest, subject_of: Callable[..., Any], tmp_path: Path) -> tuple[str, Path]:
    """A backend, and a checkpoint of its own to spoil."""
    folder = tmp_path / "model"
    shutil.copytree(subject_of(request.param).model, folder)
    return request.param, folder


def refuse(backend: str | None, model: str | Path, run: Callable[..., Any]) -> str:
    """Assert that the library and the command refuse a model with one and the same message, and return it."""
    with pytest.raises((ModelLoadError, BackendNotFoundError)) as caught:
        Reranker(model, backend=backend, local_files_only=True)
    refusal = str(caught.value)
    assert NEXT_STEP.search(refusal), refusal
    named = [] if backend is None else ["--backend", backend]
    ran = run("rank", QUERY, *TEXTS, "--model", str(model), *named, "--option", "local_files_only=true")
    assert (ran.code, ran.out) == (1, "")
    assert "Traceback" not in ran.err
    assert ran.err.startswith("rerank: ")
    return refusal


@pytest.mark.parametrize("backend", [*FILES, None])
@pytest.mark.parametrize("content", [{}, {"notes.txt": "bees"}, {"config.json": "{}"}, {"tokenizer.json": "{}"}])
def test_a_folder_that_is_no_checkpoint(
    backend: str | None,
    content: dict[str, str],
    subject_of: Callable[..., Any],
    tmp_path: Path,
    run: Callable[..., Any],
) -> None:
    if backend:
        subject_of(backend)
    for name, text in content.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert str(tmp_path) in refuse(backend, tmp_path, run)


@pytest.mark.parametrize("backend", [*FILES, None])
@pytest.mark.parametrize(
    "name", ["absent/of/all", "./absent", "/absent", "~nobody/model", "a b", "x" * 5000, "é", "", "."]
)
def test_a_name_that_leads_nowhere(
    backend: str | None, name: str, subject_of: Callable[..., Any], hub: Any, run: Callable[..., Any]
) -> None:
    if backend:
        subject_of(backend)
    assert repr(name)[:40] in refuse(backend, name, run) or name == "."


@pytest.mark.parametrize("backend", FILES)
def test_a_file_is_no_folder(
    backend: str, subject_of: Callable[..., Any], tmp_path: Path, run: Callable[..., Any]
) -> None:
    subject_of(backend)
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert "is a file" in refuse(backend, tmp_path / "model.bin", run)


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "a few bytes": lambda content: content[:10],
    "half": lambda content: content[: len(content) // 2],
    "all but a byte": lambda content: content.rstrip(b"\n")[:-1],
    "a pointer of git-lfs": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "a page of html": lambda content: b"<!DOCTYPE html><html>Sign in</html>",
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("which", ["weights", "tokenizer.json", "config.json"])
def test_a_spoilt_file(copy: tuple[str, Path], which: str, spoil: str, run: Callable[..., Any]) -> None:
    backend, folder = copy
    path = folder / (FILES[backend] if which == "weights" else which)
    path.write_bytes(SPOILT[spoil](path.read_bytes()))
    refusal = refuse(backend, folder, run)
    assert str(folder) in refusal


def rank_all(folder: Path, backend: str | None) -> RerankError | None:
    """Rank with a checkpoint: a ranking of every text, or the typed error."""
    try:
        with Reranker(folder, backend=backend) as reranker:
            assert len(reranker.rank(QUERY, TEXTS)) == len(TEXTS)
    except RerankError as error:
        return error
    return None


@pytest.mark.parametrize("content", ["[]", "null", "3", '"bees"', "{}"])
def test_a_config_of_another_kind(copy: tuple[str, Path], content: str) -> None:
    backend, folder = copy
    (folder / "config.json").write_text(content, encoding="utf-8")
    error = rank_all(folder, backend)
    assert error is None or NEXT_STEP.search(str(error)), str(error)


@pytest.mark.parametrize(
    "values",
    [
        {"max_position_embeddings": "many"},
        {"max_position_embeddings": -1},
        {"max_position_embeddings": 0},
        {"pad_token_id": "none"},
        {"pad_token_id": -1},
        {"pad_token_id": 10**9},
        {"architectures": "Bert"},
        {"architectures": [None]},
        {"id2label": []},
        {"model_type": None},
        {"late_interaction": 3},
    ],
)
def test_a_config_with_wrong_values(copy: tuple[str, Path], values: dict[str, Any], run: Callable[..., Any]) -> None:
    """Whatever a config.json says, a ranking or a `RerankError` comes out, whether or not the backend is named."""
    backend, folder = copy
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")
    for named in (backend, None):
        error = rank_all(folder, named)
        assert error is None or str(folder) in str(error)


def test_a_tokenizer_without_a_pad_token(copy: tuple[str, Path]) -> None:
    """Padding is masked, so that any id will do: scores in a batch equal those alone."""
    backend, folder = copy
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).is_file():
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            content.pop("pad_token", None)
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
    text = (folder / "tokenizer.json").read_text(encoding="utf-8").replace("[PAD]", "[unused0]")
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("pad_token_id", None)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with Reranker(folder, backend=backend) as reranker:
        together = {result.text: result.score for result in reranker.rank(QUERY, TEXTS)}
        assert together == pytest.approx({text: reranker.score(QUERY, text) for text in TEXTS}, abs=1e-5)


@pytest.mark.parametrize(("backend", "distribution"), DISTRIBUTIONS.items())
def test_a_backend_that_is_not_installed(backend: str, distribution: str) -> None:
    for arguments in ({"model": "owner/model", "backend": backend}, {"model": backend}):
        with pytest.raises(BackendNotFoundError, match=f"pip install {distribution}$"):
            Reranker(**arguments, registry=Registry())


@pytest.mark.parametrize(("backend", "distribution"), DISTRIBUTIONS.items())
def test_a_backend_that_is_disabled(
    backend: str, distribution: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(distribution.replace("-", "_"))
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "all")
    for named in (["--model", "owner/model", "--backend", backend], ["--model", backend]):
        ran = run("rank", QUERY, *TEXTS, *named)
        assert (ran.code, ran.out) == (1, "")
        assert f"{distribution} is installed but disabled" in ran.err
        assert "pip install" not in ran.err


def test_a_model_that_only_an_absent_backend_runs(torch_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_DISABLE_PLUGINS", "rerank-crossencoder")
    with pytest.raises(
        BackendNotFoundError, match=r"change RERANK_DISABLE_PLUGINS, which disables rerank-crossencoder"
    ):
        Reranker(torch_folder)
