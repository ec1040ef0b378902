"""Processes that share a folder: they are forked, killed and locked out, and files vanish while in use, as on POSIX."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vector_models import WIDTH, Encoder, files, is_right

from rerank import InvalidOptionsError, ModelRef
from rerank_vectors import DocumentCache, VectorOptions
from rerank_vectors import folder as folders

resource = pytest.importorskip("resource", reason="kills, forks and locks out processes as POSIX does")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

Opener = Callable[..., DocumentCache]
TEXTS = [f"text {n} 🐝" for n in range(20)]
MIB = 2**20


def work(kept: Path, checkpoint: Path, seed: int, calls: int) -> None:
    """Encode random texts again and again, in a small folder whose segments come and go; exit with 3 if one is wrong."""
    cache = DocumentCache(VectorOptions(vectors=kept, vectors_max_bytes=MIB), ModelRef(str(checkpoint)), {}, WIDTH)
    rng = random.Random(seed)
    for _ in range(calls):
        texts = [f"text {rng.randrange(3000)} 🐝" for _ in range(50)]
        if not is_right(cache.encode(texts, Encoder()), texts):
            os._exit(3)
    os._exit(0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_write_and_read_at_once(kept: Path, checkpoint: Path, open_cache: Opener, method: str) -> None:
    calls = 40 if method == "fork" else 10
    if method == "spawn":
        code = "import sys; sys.path[:0] = [sys.argv.pop(1)]; import test_processes as t; from pathlib import Path; "
        code += "t.work(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))"
        here = str(Path(__file__).parent)
        processes: list[Any] = [
            subprocess.Popen([sys.executable, "-c", code, here, str(kept), str(checkpoint), str(n), str(calls)])
            for n in range(3)
        ]
        codes = [process.wait(60) for process in processes]
    else:
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=work, args=(kept, checkpoint, n, calls)) for n in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        codes = [process.exitcode for process in processes]
    assert codes == [0, 0, 0]
    encode, texts = Encoder(), [f"text {n} 🐝" for n in range(3000)]
    assert is_right(open_cache().encode(texts, encode), texts)
    assert len(encode.calls[0]) < len(texts)


def test_a_forked_child_begins_a_segment_of_its_own(open_cache: Opener, kept: Path) -> None:
    cache = open_cache()
    cache.encode(["before"], Encoder())
    store: Any = cache._store
    with store.lock:  # as another thread could at the time of the fork
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            encode = Encoder()
            right = is_right(cache.encode(["before", "the child's"], encode), ["before", "the child's"])
            os._exit(0 if right and encode.calls == [["the child's"]] else 3)
        assert os.waitpid(child, 0)[1] == 0
    encode = Encoder()
    texts = ["before", "the child's", "the parent's"]
    assert is_right(cache.encode(texts, encode), texts)
    assert encode.calls == [["the parent's"]]
    assert len(files(kept, ".index")) == 2
    assert is_right(open_cache().encode(texts, encode), texts)
    assert len(encode.calls) == 1


def test_memory_survives_a_fork(open_cache: Opener) -> None:
    cache = open_cache(vectors="memory")
    cache.encode(["before"], Encoder())
    store: Any = cache._store
    with store.lock:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if is_right(cache.encode(["before"], lambda texts: []), ["before"]) else 3)
        assert os.waitpid(child, 0)[1] == 0


WRITE = """
import sys
from pathlib import Path

sys.path[:0] = [sys.argv[1]]
from vector_models import WIDTH, Encoder
from rerank import ModelRef
from rerank_vectors import DocumentCache, VectorOptions

cache = DocumentCache(VectorOptions(vectors=Path(sys.argv[2])), ModelRef(sys.argv[3]), {}, WIDTH)
print("ready", flush=True)
for n in range(int(sys.argv[4]), 10**6):
    cache.encode([f"text {n} 🐝"], Encoder())
    print(n, flush=True)
"""


def test_a_kill_loses_only_what_was_not_written(kept: Path, checkpoint: Path, open_cache: Opener) -> None:
    here, written = str(Path(__file__).parent), [-1]
    for pause in (0.0, 0.03, 0.07):
        command = [sys.executable, "-c", WRITE, here, str(kept), str(checkpoint), str(written[-1] + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(pause)
            writer.kill()
            written += map(int, writer.stdout.read().split())
        encode, texts = Encoder(), [f"text {n} 🐝" for n in range(written[-1] + 1)]
        assert is_right(open_cache().encode(texts, encode), texts)
        assert encode.calls == []
    assert len(written) > 3


def test_a_file_that_shrinks_while_it_is_mapped_is_not_read(open_cache: Opener, kept: Path) -> None:
    cache, encode = open_cache(), Encoder()
    open_cache().encode(TEXTS, encode)
    cache.encode(TEXTS, encode)
    (file,) = files(kept, ".vectors")
    os.truncate(file, 0)
    assert is_right(cache.encode(TEXTS, encode), TEXTS)
    assert [len(call) for call in encode.calls] == [20, 20]


def test_nobody_else_may_read_it(open_cache: Opener, kept: Path) -> None:
    open_cache().encode(TEXTS, Encoder())
    mode = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in [kept, *kept.glob("*"), *kept.glob("*/*")]}
    assert mode == {"": 0o700, ".json": 0o600, ".vectors": 0o600, ".index": 0o600}


def test_what_another_process_removes_is_encoded_again(open_cache: Opener, kept: Path) -> None:
    reader, fresh, encode = open_cache(), open_cache(), Encoder()
    open_cache().encode(TEXTS, encode)
    held = reader.encode(TEXTS, encode)
    assert fresh.missing(TEXTS) == []
    folders.make_room(kept, 0)
    assert files(kept, ".vectors") == []
    assert is_right(held, TEXTS)
    assert is_right(reader.encode(TEXTS, encode), TEXTS)  # its map is still good
    assert len(encode.calls) == 1
    assert is_right(fresh.encode(TEXTS, encode), TEXTS)
    assert len(encode.calls) == 2
    assert reader.missing([*TEXTS, "another"]) == ["another"]


def test_a_writer_whose_segment_is_removed_begins_another(open_cache: Opener, kept: Path) -> None:
    cache, encode = open_cache(), Encoder()
    cache.encode(["a"], encode)
    folders.make_room(kept, 0)
    cache.encode(["b"], encode)
    assert open_cache().missing(["a", "b"]) == ["a"]


@pytest.mark.parametrize("removed", ["", "*"])
def test_a_removed_folder_is_made_again(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture, removed: str
) -> None:
    cache = open_cache()
    for n in range(2):
        cache.encode(TEXTS, Encoder())
        for folder in kept.glob(removed) if removed else [kept]:
            shutil.rmtree(folder)
        cache.encode([f"new {n}"], Encoder())
        assert open_cache().missing([*TEXTS, f"new {n}"]) == TEXTS
    assert len(list(kept.glob("*/about.json"))) == 1
    assert not caplog.records


def test_a_folder_that_is_removed_again_and_again(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_cache()
    make_room = folders.make_room
    shutil.rmtree(kept)
    monkeypatch.setattr(folders, "make_room", lambda root, max_bytes: shutil.rmtree(root, ignore_errors=True))
    assert is_right(cache.encode(TEXTS, Encoder()), TEXTS)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    monkeypatch.setattr(folders, "make_room", make_room)
    assert is_right(cache.encode(TEXTS, Encoder()), TEXTS)
    assert open_cache().missing(TEXTS) == []


def test_a_file_in_place_of_the_folder_costs_vectors_and_one_warning(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = open_cache()
    cache.encode(TEXTS, Encoder())
    shutil.rmtree(kept)
    kept.touch()
    for n in range(3):
        encode = Encoder()
        assert is_right(cache.encode([*TEXTS, f"new {n}"], encode), [*TEXTS, f"new {n}"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "vectors cannot be written" in caplog.text


def test_a_full_disk_costs_vectors_and_one_warning(
    open_cache: Opener, caplog: pytest.LogCaptureFixture, checkpoint: Path
) -> None:
    """The limit of a file's size stands in for the disk's: a write is cut short, and the next one fails."""
    cache, encode = open_cache(), Encoder()
    texts = [f"text {n}" for n in range(60)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        for _ in range(2):
            assert is_right(cache.encode(texts, encode), texts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept_now = len(encode.calls[0]) - len(encode.calls[1])
    assert 0 < kept_now < 60
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert open_cache().missing(texts) == texts[kept_now:]


def test_a_full_disk_is_refused_and_leaves_nothing(open_cache: Opener, kept: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(InvalidOptionsError, match=r"vectors=.*name a folder"):
            open_cache()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(kept.glob("*/*")) == []


def test_too_many_open_files_cost_one_warning_per_call(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(5):
        open_cache().encode([f"text {n} 🐝"], Encoder())
    cache, encode = open_cache(), Encoder()
    assert cache.missing(TEXTS[:5]) == []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = list(kept.glob("*/*"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # those of the standard streams
    try:
        for _ in range(2):
            caplog.clear()
            assert is_right(cache.encode(TEXTS, encode), TEXTS)
            assert [record.levelname for record in caplog.records] == ["WARNING"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sorted(kept.glob("*/*")) == sorted(listed)
    caplog.clear()
    for _ in range(2):
        assert is_right(cache.encode(TEXTS, encode), TEXTS)
    assert encode.calls == [TEXTS, TEXTS, TEXTS[5:]]
    assert not caplog.records


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_a_description_that_is_no_file_is_not_read(open_cache: Opener, kept: Path, kind: str) -> None:
    open_cache().encode(TEXTS, Encoder())
    (about,) = kept.glob("*/about.json")
    content = about.read_bytes()
    about.unlink()
    if kind == "pipe":
        os.mkfifo(about)
    else:
        about.symlink_to("/dev/zero")
    assert open_cache().missing(TEXTS) == []
    assert about.read_bytes() == content


@pytest.mark.parametrize("kind", ["device", "dangling", "loop"])
def test_what_is_no_folder_is_called_so(open_cache: Opener, tmp_path: Path, kind: str) -> None:
    link = tmp_path / "link"
    link.symlink_to({"device": "/dev/null", "dangling": tmp_path / "nowhere", "loop": link}[kind])
    with pytest.raises(InvalidOptionsError, match=r"vectors=.*link is no folder.*name a folder"):
        open_cache(vectors=link)


def test_a_folder_that_cannot_be_written_is_refused(checkpoint: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name), ModelRef(str(checkpoint))
        options = VectorOptions(vectors=folder)
        about = DocumentCache(options, model, {}, WIDTH)
        assert about.missing(["a"]) == ["a"]
        for path in (folder, *folder.glob("*")):
            path.chmod(0o555)
        child = os.fork()
        if child == 0:
            code = 3
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                folders.Folder(folder, about._store._digest, {}, 2**20)  # type: ignore[union-attr]
            except InvalidOptionsError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        for path in (folder, *folder.glob("*")):
            path.chmod(0o755)
