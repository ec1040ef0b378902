"""A checkpoint, a hub and an argument that name files elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

from rerank import InvalidOptionsError, ModelLoadError, ModelRef, Reranker

NAME = "owner/model"
ELSEWHERE = (
    "../outside.json",
    "/etc/passwd",
    "folder/../../outside.json",
    "..",
    "",
    "a\\..\\b",
    "C:outside",
    "a\0b",
    "a//b",
)


@pytest.fixture
def checkpoint(subject_of: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A backend, and a checkpoint of its own beside a file that is none of its business."""
    (tmp_path / "outside.json").write_text('{"secret": 1}', encoding="utf-8")
    folder = shutil.copytree(subject_of(request.param).model, tmp_path / "model")
    return request.param, folder


def below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("file", ELSEWHERE)
def test_a_file_name_stays_inside(tmp_path: Path, hub: Hub, file: str) -> None:
    (tmp_path / "outside.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    hub.add(NAME, {"config.json": "{}"})
    for name in (str(tmp_path / "model"), NAME):
        with pytest.raises(ModelLoadError, match="names a file outside itself"):
            ModelRef(name).fetch(file)
    assert not hub.seen


@pytest.mark.parametrize("checkpoint", ["cross-encoder"], indirect=True)
@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", 3, None])
def test_shards_elsewhere_are_refused(checkpoint: tuple[str, Path], shard: Any) -> None:
    backend, folder = checkpoint
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": {"bert.pooler.dense.weight": shard}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="names a file outside itself"):
        Reranker(folder, backend=backend)


@pytest.mark.parametrize("checkpoint", ["onnx", "cross-encoder"], indirect=True)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_links_elsewhere_are_refused(checkpoint: tuple[str, Path], file: str) -> None:
    backend, folder = checkpoint
    outside = shutil.move(folder / file, folder.parent / file)
    (folder / file).symlink_to(outside)
    with pytest.raises(
        ModelLoadError, match=rf"{file} of .* is a link to .*, outside that folder: copy the file there"
    ):
        Reranker(folder, backend=backend)


@pytest.mark.parametrize("checkpoint", ["onnx", "cross-encoder"], indirect=True)
def test_links_inside_are_followed(checkpoint: tuple[str, Path]) -> None:
    backend, folder = checkpoint
    (folder / "kept").mkdir()
    shutil.move(folder / "config.json", folder / "kept" / "config.json")
    (folder / "config.json").symlink_to("kept/config.json")
    (link := folder.parent / "link").symlink_to(folder)
    with Reranker(link, backend=backend) as reranker:
        assert len(reranker.rank("bees", ["a", "b"])) == 2


def test_links_to_the_hubs_cache_are_followed(tmp_path: Path, hub: Hub) -> None:
    hub.add(NAME, {"config.json": '{"a": 1}'})
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").symlink_to(ModelRef(NAME).fetch("config.json").resolve())
    assert ModelRef(str(folder)).config == {"a": 1}


@pytest.mark.parametrize("checkpoint", ["onnx"], indirect=True)
@pytest.mark.parametrize("location", ["../weights", "/etc/passwd", "*/_ORT_MEM_ADDR_/*", "absent", ""])
@pytest.mark.parametrize("place", ["initializer", "attribute", "branch"])
def test_weights_of_a_graph_elsewhere_are_refused(checkpoint: tuple[str, Path], location: str, place: str) -> None:
    onnx = pytest.importorskip("onnx")
    backend, folder = checkpoint
    model = onnx.load(folder / "model.onnx")
    tensor = onnx.TensorProto(name="outside", dims=[4], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    (folder.parent / "weights").write_bytes(bytes(16))
    if place == "initializer":
        model.graph.initializer.append(tensor)
    elif place == "attribute":
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["made"], value=tensor))
    else:
        branch = onnx.helper.make_graph([], "branch", [], [], [tensor])
        model.graph.node.append(onnx.helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelLoadError, match=r"has weights in .*, which is no file of the checkpoint"):
        Reranker(folder, backend=backend)


@pytest.mark.parametrize(
    "revision",
    ["../../..", "/tmp/x", "a/../../b", "", ".", "a//b", "-\n", "a b", "a\\b", "a:b", "x" + "/.." * 40, "a/.git"],
)
def test_a_revision_is_a_name_that_git_gives(tmp_path: Path, hub: Hub, run: Callable[..., Any], revision: str) -> None:
    hub.add(NAME, {"config.json": "{}"})
    before = below(tmp_path)
    for model in (NAME, "ms-marco-MiniLM-L-12-v2"):
        with pytest.raises(InvalidOptionsError, match="is no branch, tag or commit"):
            Reranker(model, revision=revision, cache_dir=str(tmp_path / "cache"))
    assert run("rank", "q", "a", "b", "--model", NAME, "--revision", revision).code == 2
    assert below(tmp_path) == before
    assert not hub.seen


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", "feature/x-1", "a" * 40, "été"])
def test_revisions_of_git_are_taken(revision: str) -> None:
    assert ModelRef(NAME, revision=revision).revision == revision


@pytest.mark.parametrize(
    ("header", "file"),
    [
        ("ETag", "config.json"),
        ("X-Linked-Etag", "model.onnx"),
        ("X-Repo-Commit", "config.json"),
        ("X-Repo-Commit", "model.onnx"),
    ],
)
@pytest.mark.parametrize("path", ["../../../../outside", "/{tmp}/outside", "..", "a/b"])
def test_a_hub_cannot_lead_a_download_elsewhere(tmp_path: Path, hub: Hub, header: str, file: str, path: str) -> None:
    hub.add(NAME, {"config.json": "{}", "model.onnx": b"weights"})
    (tmp_path / "outside").write_bytes(b"mine")
    hub.headers = {header: path.replace("{tmp}", str(tmp_path))}
    model = ModelRef(NAME, cache_dir=str(tmp_path / "cache"))
    before = below(tmp_path)
    with pytest.raises(ModelLoadError, match=r"calls a version of .*, which is no name for a file: check HF_ENDPOINT"):
        model.fetch(file)
    assert below(tmp_path) == before
    assert (tmp_path / "outside").read_bytes() == b"mine"


def test_a_damaged_file_is_removed_from_the_cache_alone(tmp_path: Path, hub: Hub) -> None:
    hub.add(NAME, {"model.onnx": b"weights"})
    model = ModelRef(NAME, cache_dir=str(tmp_path / "cache"))
    path = model.fetch("model.onnx")
    victim = tmp_path / ("0" * 64)
    victim.write_bytes(b"mine")
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(ModelLoadError):
        ModelRef(NAME, cache_dir=str(tmp_path / "cache"), local_files_only=True).fetch("model.onnx", repair=True)
    assert victim.read_bytes() == b"mine"
