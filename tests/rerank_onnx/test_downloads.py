"""Models from a local hub: FlashRank's archives and repositories, complete or damaged, online or offline."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from rerank import ModelLoadError, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_onnx.options import FLASHRANK

ARCHIVES = "prithivida/flashrank"
NAME = "ms-marco-TinyBERT-L-2-v2"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def archive(folder, top=None, graph="flashrank-toy_Q.onnx"):
    """A checkpoint as FlashRank packs it; with ``top`` inside a folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in contents(folder).items():
            inside = name.replace("model.onnx", graph)
            packed.writestr(f"{top}/{inside}" if top else inside, content)
    return stream.getvalue()


def blobs(cache):
    return [path for path in Path(cache).rglob("blobs/*") if path.is_file()]


@pytest.fixture
def right(cross_encoder):
    """Asserts that a reranker computes what the checkpoint does."""

    def check(reranker, model=cross_encoder):
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(model.pair(QUERY, DOCUMENTS[0]), abs=1e-5)

    return check


# FlashRank's archives


@pytest.mark.parametrize("name", FLASHRANK)
def test_every_archive_by_its_name(hub, tmp_path, cross_encoder, right, name):
    hub.add(ARCHIVES, {f"{name}.zip": archive(cross_encoder.folder, top=name)})
    reranker = Reranker(name, cache_dir=tmp_path / "cache")
    right(reranker)
    assert (reranker.model, reranker.backend) == (name, "onnx")
    assert (tmp_path / "cache" / name / "flashrank-toy_Q.onnx").is_file()


def test_an_archive_without_a_folder_inside(hub, tmp_path, cross_encoder, right):
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder)})
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))


@pytest.mark.parametrize(
    ("lang", "name"), [("en", NAME), ("ar", "miniReranker_arabic_v1"), ("sw", "ms-marco-MultiBERT-L-12")]
)
@pytest.mark.parametrize("alias", ["onnx", "flashrank"])
def test_short_names_by_language(hub, tmp_path, cross_encoder, alias, lang, name):
    hub.add(ARCHIVES, {f"{name}.zip": archive(cross_encoder.folder, top=name)})
    assert Reranker(alias, lang=lang, cache_dir=tmp_path / "cache").model == name


def test_the_default_cache_is_the_hubs_home(hub, monkeypatch, tmp_path, cross_encoder, right):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder)})
    right(Reranker(NAME))
    assert (tmp_path / "home/rerank-onnx" / NAME / "tokenizer.json").is_file()


def test_an_unpacked_archive_needs_no_hub(hub, tmp_path, cross_encoder, right):
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder, top=NAME)})
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    hub.seen.clear()
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    assert not hub.seen


@pytest.mark.parametrize("left", ["tokenizer.json", "flashrank-toy_Q.onnx", None])
def test_a_partly_unpacked_archive_is_replaced(hub, tmp_path, cross_encoder, right, left):
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder, top=NAME)})
    folder = tmp_path / "cache" / NAME
    folder.mkdir(parents=True)
    if left:
        (folder / left).write_text("half of it")
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    assert sorted(contents(folder)) == ["config.json", "flashrank-toy_Q.onnx", "tokenizer.json"]


@pytest.mark.parametrize("file", ["flashrank-toy_Q.onnx", "tokenizer.json"])
def test_a_damaged_unpacked_file_is_repaired(hub, tmp_path, cross_encoder, right, file):
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder, top=NAME)})
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    damaged = tmp_path / "cache" / NAME / file
    damaged.write_bytes(damaged.read_bytes()[:100])
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    assert damaged.stat().st_size > 100
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".ms-marco")]


@pytest.mark.parametrize("garble", ["truncate", "member", "nothing like it", "empty", "wrong files"])
def test_a_damaged_archive_in_the_cache_is_fetched_again(hub, tmp_path, cross_encoder, right, garble):
    good = archive(cross_encoder.folder, top=NAME)
    hub.add(ARCHIVES, {f"{NAME}.zip": good})
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    for file in contents(tmp_path / "cache" / NAME):
        (tmp_path / "cache" / NAME / file).unlink()
    (blob,) = blobs(tmp_path / "cache")
    start = len(good) // 3
    blob.write_bytes(
        {
            "truncate": good[: len(good) // 2],
            "member": good[:start] + b"\xff" * 400 + good[start + 400 :],
            "nothing like it": b"<html>try again later</html>",
            "empty": b"",
            "wrong files": archive(cross_encoder.folder, top="something/else"),
        }[garble]
    )
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    assert blob.read_bytes() == good


@pytest.mark.parametrize("content", [b"no archive", b"", archive.__doc__.encode()])
def test_an_archive_that_stays_broken_is_a_typed_error(hub, tmp_path, content):
    hub.add(ARCHIVES, {f"{NAME}.zip": content})
    with pytest.raises(ModelLoadError, match=rf"not a complete archive of {NAME}"):
        Reranker(NAME, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache" / NAME).exists()
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".ms-marco")]


def test_an_archive_cannot_write_outside_its_folder(hub, tmp_path, cross_encoder, right):
    stream = io.BytesIO(archive(cross_encoder.folder, top=NAME))
    with zipfile.ZipFile(stream, "a") as packed:
        packed.writestr("../../escaped.txt", "x")
        packed.writestr("/escaped.txt", "x")
    hub.add(ARCHIVES, {f"{NAME}.zip": stream.getvalue()})
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))
    assert not list(tmp_path.glob("escaped.txt"))
    assert not (tmp_path / "cache/escaped.txt").exists()


@pytest.mark.parametrize("fault", ["damage", "truncate"])
def test_an_archive_damaged_on_its_way_is_never_unpacked(hub, tmp_path, cross_encoder, right, fault, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client's own pauses between attempts
    files = {f"{NAME}.zip": archive(cross_encoder.folder, top=NAME)}
    hub.add(ARCHIVES, files, **{fault: tuple(files)})
    with pytest.raises(ModelLoadError, match=NAME):
        Reranker(NAME, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache" / NAME).exists()
    hub.add(ARCHIVES, files)
    right(Reranker(NAME, cache_dir=tmp_path / "cache"))


def test_a_name_without_an_archive_is_a_typed_error(hub, tmp_path):
    hub.add(ARCHIVES, {"other.zip": b""})
    with pytest.raises(ModelLoadError, match=rf"has no {NAME}\.zip"):
        Reranker(NAME, cache_dir=tmp_path / "cache")


def test_offline_without_the_archive_says_what_to_do(hub, tmp_path):
    with pytest.raises(ModelLoadError, match=f"which {NAME!r} stands for, is not in the cache"):
        Reranker(NAME, cache_dir=tmp_path / "cache", local_files_only=True)
    assert not hub.seen


_READ_ONLY = """
import os, socket, sys
def refuse(*_, **__):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = refuse
from rerank import Reranker
name, copy, cache, query, text = sys.argv[1:]
Reranker(name, cache_dir=copy).score(query, text)  # imports what only this user may read
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    open(os.path.join(cache, "probe"), "w")
    sys.exit("the cache can be written")
except PermissionError:
    print(Reranker(name, cache_dir=cache).score(query, text))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
@pytest.mark.parametrize("name", [NAME, "someone/reranker"])
def test_a_filled_cache_that_cannot_be_written(hub, cross_encoder, name):
    """As on AWS Lambda: the image holds the files, the file system is read-only and there is no hub."""
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder, top=NAME)})
    hub.add("someone/reranker", contents(cross_encoder.folder))
    with tempfile.TemporaryDirectory() as folder:
        cache, copy = Path(folder, "cache"), Path(folder, "copy")
        Reranker(name, cache_dir=cache)
        hub.stop()
        shutil.copytree(cache, copy, symlinks=True)
        folders = [Path(folder), cache, *(path for path in cache.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
        del environment["HF_HUB_CACHE"]
        command = [sys.executable, "-c", _READ_ONLY, name, str(copy), str(cache), QUERY, DOCUMENTS[0]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        for path in folders:
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(cross_encoder.pair(QUERY, DOCUMENTS[0]), abs=1e-5)


_LOAD = """
import sys
from rerank import Reranker
print(Reranker(sys.argv[1], cache_dir=sys.argv[2]).score(sys.argv[3], sys.argv[4]))
"""


@pytest.mark.parametrize("name", [NAME, "someone/reranker"])
def test_processes_that_download_at_once(hub, tmp_path, cross_encoder, name):
    hub.add(ARCHIVES, {f"{NAME}.zip": archive(cross_encoder.folder, top=NAME)})
    hub.add("someone/reranker", contents(cross_encoder.folder))
    command = [sys.executable, "-c", _LOAD, name, str(tmp_path / "cache"), QUERY, DOCUMENTS[0]]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        output, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
        assert float(output) == pytest.approx(cross_encoder.pair(QUERY, DOCUMENTS[0]), abs=1e-5)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".ms-marco")]


# repositories


def test_a_repository(hub, tmp_path, toy, right):
    model = toy(file="onnx/model.onnx", seed=1)
    hub.add("someone/reranker", {**contents(model.folder), "README.md": "", "onnx/model_O4.onnx": b"unread"})
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache"), model)
    assert hub.count("onnx/model.onnx") == 1
    assert hub.count("model_O4") == hub.count("README") == 0


def test_weights_beside_the_graph_are_fetched(hub, tmp_path, toy, right):
    model = toy(file="onnx/model.onnx", external="model.onnx_data", seed=2)
    hub.add("someone/reranker", contents(model.folder))
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache"), model)


def test_a_revision(hub, tmp_path, toy, right):
    first, second = toy(seed=4), toy(seed=5)
    hub.add("someone/reranker", contents(first.folder))
    hub.add("someone/reranker", contents(second.folder), revision="v2")
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache"), first)
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache", revision="v2"), second)


@pytest.mark.parametrize("fault", ["damage", "truncate"])
@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "config.json"])
def test_a_file_damaged_on_its_way_is_never_used(hub, tmp_path, cross_encoder, right, fault, file, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    files = contents(cross_encoder.folder)
    hub.add("someone/reranker", files, **{fault: (file,)})
    with pytest.raises(ModelLoadError, match=file.replace(".", r"\.")):
        Reranker("someone/reranker", cache_dir=tmp_path / "cache", backend="onnx")
    assert files[file] not in [blob.read_bytes() for blob in blobs(tmp_path / "cache")]
    assert not list((tmp_path / "cache").rglob(f"snapshots/*/{file}")) or fault == "damage"
    hub.add("someone/reranker", files)
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache"))


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "model.onnx_data"])
@pytest.mark.parametrize("kept", [0, 100])
def test_a_file_damaged_in_the_cache_is_repaired(hub, tmp_path, toy, right, file, kept, caplog):
    model = toy(external="model.onnx_data", seed=6)
    hub.add("someone/reranker", contents(model.folder))
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache"), model)
    (path,) = (tmp_path / "cache").rglob(f"snapshots/*/{file}")
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes()[:kept])
    right(Reranker("someone/reranker", cache_dir=tmp_path / "cache"), model)
    assert "fetching what is damaged again" in caplog.text


def test_a_file_damaged_in_the_cache_offline_is_a_typed_error(hub, tmp_path, cross_encoder):
    hub.add("someone/reranker", contents(cross_encoder.folder))
    Reranker("someone/reranker", cache_dir=tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob("snapshots/*/model.onnx")
    path.resolve().write_bytes(b"")
    with pytest.raises(ModelLoadError, match=r"model\.onnx"):
        Reranker("someone/reranker", cache_dir=tmp_path / "cache", local_files_only=True)


def test_a_filled_cache_is_enough(hub, tmp_path, cross_encoder, right, monkeypatch):
    hub.add("someone/reranker", contents(cross_encoder.folder))
    where = {"cache_dir": tmp_path / "cache"}
    right(Reranker("someone/reranker", **where))
    hub.seen.clear()
    right(Reranker("someone/reranker", **where, local_files_only=True))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    right(Reranker("someone/reranker", **where))
    assert not hub.seen
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.stop()
    right(Reranker("someone/reranker", **where))


def test_an_empty_cache_offline_says_what_to_do(hub, tmp_path):
    with pytest.raises(ModelLoadError, match="not in the cache"):
        Reranker("someone/reranker", cache_dir=tmp_path / "cache", local_files_only=True, backend="onnx")
    assert not hub.seen


def test_without_the_hub_the_client_does_not_try_again_and_again(hub, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []
    download = huggingface_hub.hf_hub_download
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *given, **more: asked.append(more) or download(*given, **more)
    )
    hub.stop()
    with pytest.raises(ModelLoadError, match="is not in the cache, and the hub was not reached"):
        Reranker("ms-marco-TinyBERT-L-2-v2", cache_dir=tmp_path)
    assert all(more["local_files_only"] for more in asked)
