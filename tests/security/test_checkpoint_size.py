"""Files that would unpack, grow, loop or build without end."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

from rerank import ModelLoadError, Reranker, ScoringError


@pytest.fixture(params=["onnx", "cross-encoder"])
def copy(request: pytest.FixtureRequest, subject_of: Callable[..., Any], tmp_path: Path) -> tuple[str, Path]:
    """A backend, and a checkpoint of its own."""
    return request.param, Path(shutil.copytree(subject_of(request.param).model, tmp_path / "model"))


def change(file: Path, **settings: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **settings}), encoding="utf-8")


def replacing(text: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


@pytest.mark.parametrize(
    "normalizer",
    [
        {"type": "Sequence", "normalizers": [replacing("a", "aa")] * 40},
        {"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [replacing("a", "aa")] * 7}]},
        replacing("a", "a" * 1000),
        {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 1000},
    ],
)
def test_a_tokenizer_that_makes_texts_longer_without_end(copy: tuple[str, Path], normalizer: dict[str, Any]) -> None:
    backend, folder = copy
    change(folder / "tokenizer.json", normalizer=normalizer)
    with pytest.raises(ModelLoadError, match=r"makes a text up to .* times as long before it is read, more than 64"):
        Reranker(folder, backend=backend)


@pytest.mark.parametrize(
    "normalizer", [replacing("``", '"'), replacing(" ", "\u2581"), {"type": "Prepend", "prepend": "_"}]
)
def test_usual_replacements_are_read(copy: tuple[str, Path], normalizer: dict[str, Any]) -> None:
    backend, folder = copy
    change(folder / "tokenizer.json", normalizer=normalizer)
    with Reranker(folder, backend=backend) as reranker:
        assert reranker.rank("bees", ["a"])


def test_a_panic_of_a_tokenizer_at_load(copy: tuple[str, Path], run: Callable[..., Any]) -> None:
    backend, folder = copy
    broken = base64.b64encode(b"\xff\xff\0\0" + b"\xff" * 40).decode()
    change(folder / "tokenizer.json", normalizer={"type": "Precompiled", "precompiled_charsmap": broken})
    with pytest.raises(ModelLoadError, match="is not a tokenizer"):
        Reranker(folder, backend=backend)
    ran = run("rank", "q", "a", "b", "--model", str(folder), "--backend", backend)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("rerank: ")


def test_a_panic_of_a_tokenizer_at_a_text(copy: tuple[str, Path]) -> None:
    backend, folder = copy
    split = {"type": "Split", "pattern": {"Regex": "(a|aa|a?)+$b"}, "behavior": "Isolated", "invert": False}
    change(folder / "tokenizer.json", pre_tokenizer=split)
    with Reranker(folder, backend=backend) as reranker, pytest.raises(ScoringError, match="PanicException"):
        reranker.rank("bees", ["a" * 300 + " b"])


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 100_000},
        {"vocab_size": 10**9},
        {"hidden_size": 10**6},
        {"intermediate_size": 10**8},
        {"max_position_embeddings": 10**9},
        {"type_vocab_size": 10**9},
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_a_network_far_larger_than_its_weights(
    subject_of: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], pickled: bool
) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    folder = shutil.copytree(subject_of("cross-encoder").model, tmp_path / "model")
    if pickled:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    change(folder / "config.json", **settings)
    name = next(iter(settings))
    started = time.monotonic()
    with pytest.raises(ModelLoadError, match=rf"config.json of .* says {name}=\d+, and its weights have \d+ tensors"):
        Reranker(folder, backend="cross-encoder", device="cpu")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("backend", ["cross-encoder", "colbert"])
def test_labels_without_end(subject_of: Callable[..., Any], tmp_path: Path, backend: str) -> None:
    if backend == "colbert":
        pytest.importorskip("rerank_colbert")
    folder = shutil.copytree(subject_of("cross-encoder").model, tmp_path / "model")
    change(folder / "config.json", num_labels=100_000_000)
    with pytest.raises(ModelLoadError, match="says num_labels=100000000, and a reranker has one or two"):
        Reranker(folder, backend=backend, device="cpu")


def zipped(members: dict[str, bytes]) -> bytes:
    import io

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"model.onnx": bytes(30 << 20), "tokenizer.json": b"{}"}, "2 files and unpacks to 31 MB"),
        ({f"{number}": b"" for number in range(2000)}, "2000 files"),
    ],
)
def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, hub: Hub, members: dict[str, bytes], message: str) -> None:
    name = "ms-marco-TinyBERT-L-2-v2"
    hub.add("prithivida/flashrank", {f"{name}.zip": zipped(members)})
    cache = tmp_path / "cache"
    with pytest.raises(ModelLoadError, match=rf"{message}.*: unpack it yourself"):
        Reranker(name, cache_dir=str(cache))
    assert not [path for path in cache.rglob("*") if path.name in members]


LOOP = """
import sys
from rerank import Reranker
print("loading", flush=True)
Reranker(sys.argv[1], backend="onnx")
"""


def endless(folder: Path) -> None:
    """Replace a graph by one that loops 2**62 times."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [value("i", kinds.INT64, []), value("go", kinds.BOOL, []), value("x", kinds.FLOAT, ["rows", 1])],
        [value("on", kinds.BOOL, []), value("y", kinds.FLOAT, ["rows", 1])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input_ids"], ["floats"], to=kinds.FLOAT),
            helper.make_node("ReduceSum", ["floats", "axes"], ["sum"], keepdims=1),
            helper.make_node("Loop", ["times", "true", "sum"], ["logits"], body=body),
        ],
        "graph",
        [value("input_ids", kinds.INT64, ["rows", "tokens"])],
        [value("logits", kinds.FLOAT, ["rows", 1])],
        [
            helper.make_tensor("axes", kinds.INT64, [1], [1]),
            helper.make_tensor("times", kinds.INT64, [], [2**62]),
            helper.make_tensor("true", kinds.BOOL, [], [True]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")


@pytest.fixture
def loop(subject_of: Callable[..., Any], tmp_path: Path) -> Path:
    """A checkpoint whose graph does not end."""
    folder = Path(shutil.copytree(subject_of("onnx").model, tmp_path / "model"))
    endless(folder)
    return folder


def test_a_graph_that_loops_without_end(loop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerank_onnx.graph.LONGEST_FIRST_RUN", 0.5)
    with pytest.raises(
        ModelLoadError, match=r"did not end within 0.5 s for a row of one token: it may loop without end"
    ):
        Reranker(loop, backend="onnx")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_a_load(loop: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LOOP, str(loop)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    assert process.returncode in (-signal.SIGINT, 1, 130)
