"""A folder that processes share: what one writes others read, and whatever happens to its files costs vectors alone."""

from __future__ import annotations

import json
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

import numpy as np
import pytest
from vector_models import WIDTH, Encoder, is_right

from rerank import InvalidOptionsError, ModelRef
from rerank_vectors import DocumentCache, DocumentVectors, VectorOptions
from rerank_vectors import folder as folders
from rerank_vectors import segment as segments

resource = pytest.importorskip("resource", reason="kills, forks and locks out processes as POSIX does")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")

Opener = Callable[..., DocumentCache]
TEXTS = [f"text {n} 🐝" for n in range(20)]
MIB = 2**20


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder that ``open_cache`` opens."""
    return tmp_path / "kept"


def files(kept: Path, suffix: str) -> list[Path]:
    return sorted(kept.glob(f"*/*{suffix}"))


def large(texts: list[str]) -> list[DocumentVectors]:
    """Documents of 28 KB, all with the last character's code."""
    return [DocumentVectors((np.full((600, WIDTH), ord(text[-1])),)) for text in texts]


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
        code = "import sys; sys.path[:0] = [sys.argv.pop(1)]; import test_folder as t; from pathlib import Path; "
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


def test_what_one_process_adds_another_finds(open_cache: Opener) -> None:
    reader, writer, encode = open_cache(), open_cache(), Encoder()
    assert reader.missing(TEXTS) == TEXTS
    for text in TEXTS:
        writer.encode([text], encode)
        assert is_right(reader.encode([text], encode), [text])
    assert encode.calls == [[text] for text in TEXTS]


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
import test_folder
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


@pytest.mark.parametrize("at", range(0, 80, 7))
@pytest.mark.parametrize("suffix", [".vectors", ".index"])
def test_a_file_cut_anywhere_costs_what_was_cut(open_cache: Opener, kept: Path, suffix: str, at: int) -> None:
    open_cache().encode(TEXTS, Encoder())
    (file,) = files(kept, suffix)
    os.truncate(file, file.stat().st_size - at)
    encode = Encoder()
    for _ in range(2):  # and is written again
        assert is_right(open_cache().encode(TEXTS, encode), TEXTS)
    lost = {".vectors": int(at > 0), ".index": -(-at // 40)}  # an entry is longer than that; a record has 40 bytes
    assert sum(map(len, encode.calls)) == lost[suffix]


def test_a_flipped_bit_costs_one_entry(open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_cache().encode(TEXTS, Encoder())
    rng = random.Random(0)
    for suffix in (".vectors", ".index") * 15:
        file = rng.choice(files(kept, suffix))
        content = bytearray(file.read_bytes())
        content[rng.randrange(32, len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        encode = Encoder()
        assert is_right(open_cache().encode(TEXTS, encode), TEXTS)
        assert sum(map(len, encode.calls)) <= 1
        assert open_cache().missing(TEXTS) == []
    assert "are damaged" in caplog.text


def test_a_damaged_entry_is_written_again_and_its_record_blanked(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_cache().encode(TEXTS, Encoder())
    (file,) = files(kept, ".vectors")
    content = bytearray(file.read_bytes())
    content[70] ^= 1
    file.write_bytes(content)
    for count in (1, 0):  # the second reader never meets it
        caplog.clear()
        encode = Encoder()
        assert is_right(open_cache().encode(TEXTS, encode), TEXTS)
        assert [len(call) for call in encode.calls] == [1] * count
        assert len(caplog.records) == count


def test_a_file_that_cannot_be_read_costs_one_warning(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_cache().encode(TEXTS, Encoder())
    (file,) = files(kept, ".vectors")
    file.unlink()
    file.mkdir()
    encode = Encoder()
    assert is_right(open_cache().encode(TEXTS, encode), TEXTS)
    assert encode.calls == [TEXTS]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be read" in caplog.text


def test_a_file_that_shrinks_while_it_is_mapped_is_not_read(open_cache: Opener, kept: Path) -> None:
    cache, encode = open_cache(), Encoder()
    open_cache().encode(TEXTS, encode)
    cache.encode(TEXTS, encode)
    (file,) = files(kept, ".vectors")
    os.truncate(file, 0)
    assert is_right(cache.encode(TEXTS, encode), TEXTS)
    assert [len(call) for call in encode.calls] == [20, 20]


def test_entries_of_any_length_read_right(open_cache: Opener) -> None:
    """With int8 and an odd width, float32 scales lie at every offset from a multiple of four."""
    rng = np.random.default_rng(0)
    vectors = {str(n): rng.normal(0, 1, (n, 5)).astype(np.float32) for n in range(1, 9)}
    cache = open_cache(dimensions=5, vectors_dtype="int8")
    cache.encode(list(vectors), lambda texts: [DocumentVectors((vectors[text],)) for text in texts])
    documents = open_cache(dimensions=5, vectors_dtype="int8").encode(list(vectors), lambda texts: [])
    for document, expected in zip(documents, vectors.values()):
        step = np.abs(expected).max(axis=1, keepdims=True) / 127
        assert (np.abs(document.windows[0] - expected) <= 0.5001 * step).all()


@pytest.mark.parametrize("content", [b"something else entirely, of some length", b"rerank vectors 9" + bytes(80)])
def test_a_segment_with_a_foreign_index_is_removed(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    open_cache().encode(TEXTS, Encoder())
    (index,) = files(kept, ".index")
    index.write_bytes(content)
    encode = Encoder()
    for _ in range(2):
        assert is_right(open_cache().encode(TEXTS, encode), TEXTS)
    assert len(encode.calls) == 1
    assert not index.exists()
    assert len(files(kept, ".index")) == len(files(kept, ".vectors")) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_the_segment_of_another_model_is_not_read(open_cache: Opener, kept: Path, checkpoint: Path) -> None:
    first, second = open_cache({"prompt": "a"}), open_cache({"prompt": "b"})
    first.encode(TEXTS, Encoder())
    ours, theirs = (kept / cache._store._digest.hex() for cache in (first, second))  # type: ignore[union-attr]
    for file in ours.glob("*.*"):
        if file.name != "about.json":
            shutil.copy(file, theirs)
    assert open_cache({"prompt": "b"}).missing(TEXTS) == TEXTS
    assert open_cache({"prompt": "a"}).missing(TEXTS) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2]"])
def test_about_says_what_it_is_and_is_mended(open_cache: Opener, kept: Path, checkpoint: Path, content: bytes) -> None:
    open_cache({"prompt": "käse"}).encode(TEXTS, Encoder())
    (about,) = kept.glob("*/about.json")
    said = json.loads(about.read_text(encoding="utf-8"))
    assert said["model"] == str(checkpoint)
    assert said["recipe"] == {"prompt": "käse"}
    assert (said["dimensions"], said["dtype"]) == (WIDTH, "fp16")
    about.write_bytes(content)
    assert open_cache({"prompt": "käse"}).missing(TEXTS) == []
    assert json.loads(about.read_text(encoding="utf-8")) == said
    assert [path.name for path in kept.glob("*/.*")] == []


def test_nobody_else_may_read_it(open_cache: Opener, kept: Path) -> None:
    open_cache().encode(TEXTS, Encoder())
    mode = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in [kept, *kept.glob("*"), *kept.glob("*/*")]}
    assert mode == {"": 0o700, ".json": 0o600, ".vectors": 0o600, ".index": 0o600}


def size(kept: Path) -> int:
    return sum(path.stat().st_size for suffix in (".vectors", ".index") for path in files(kept, suffix))


def test_the_bound_holds_for_all_models_together(open_cache: Opener, kept: Path) -> None:
    caches = [open_cache({"model": n}, vectors_max_bytes=2 * MIB) for n in range(2)]
    for n in range(150):  # 4.2 MB
        caches[n % 2].encode([f"text {n}"], large)
        assert size(kept) <= 2 * MIB
    assert size(kept) > 1.7 * MIB
    for cache in caches:
        assert 20 < 150 - len(cache.missing([f"text {n}" for n in range(150)])) < 60


def test_an_entry_too_large_for_a_segment_has_one_of_its_own(open_cache: Opener, kept: Path) -> None:
    cache = open_cache(vectors_max_bytes=MIB)
    texts = ["a", "b", "c"]

    def half(given: list[str]) -> list[DocumentVectors]:
        return [DocumentVectors((np.full((9000, WIDTH), ord(text)),)) for text in given]  # 432 KB

    cache.encode(texts, half)
    assert cache.missing(texts) == ["a"]
    assert size(kept) <= MIB
    enormous = DocumentVectors((np.zeros((30_000, WIDTH)),))
    assert len(cache.encode(["d"], lambda given: [enormous])[0].windows[0]) == 30_000
    assert open_cache().missing([*texts, "d"]) == ["a", "d"]


def test_the_least_recently_used_segment_goes_first(open_cache: Opener, kept: Path) -> None:
    texts = [f"text {n}" for n in range(40)]
    by_text = {}
    for n, text in enumerate(texts):  # a segment each
        cache = open_cache({"n": n})
        cache.encode([text], large)
        (by_text[text],) = cache._store._place.glob("*.vectors")  # type: ignore[union-attr]
        os.utime(by_text[text], (n, n))
    open_cache({"n": 3}).encode(["text 3"], Encoder())  # used: it is the newest now
    folders.make_room(kept, size(kept) - 10)
    assert not by_text["text 0"].exists()
    assert by_text["text 1"].exists()
    folders.make_room(kept, size(kept) - 3 * 28_800)
    assert [text for text in texts if not by_text[text].exists()] == ["text 0", "text 1", "text 2", "text 4"]


def test_a_collection_has_few_files(open_cache: Opener, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MOST_SEGMENTS", 5)
    open_cache({"n": 0}).encode(["oldest"], Encoder())
    texts = [f"text {n}" for n in range(8)]
    for text in texts:
        open_cache().encode([text], Encoder())
        time.sleep(0.02)  # so that their times differ
    assert open_cache().missing(texts) == texts[:3]
    assert open_cache({"n": 0}).missing(["oldest"]) == []


def test_what_cannot_be_removed_still_counts(open_cache: Opener, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, while another process has it mapped."""
    texts = [f"text {n}" for n in range(4)]
    for n, text in enumerate(texts):
        open_cache().encode([text], large)
        os.utime(max(files(kept, ".vectors"), key=lambda file: file.stat().st_mtime), (n, n))
    oldest = min(files(kept, ".vectors"), key=lambda file: file.stat().st_mtime)
    unlink = Path.unlink

    def guarded(path: Path, missing_ok: bool = False) -> None:
        if path == oldest:
            raise PermissionError
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", guarded)
    folders.make_room(kept, 2 * 29_000)
    assert size(kept) <= 2 * 29_000
    assert open_cache().missing(texts) == ["text 1", "text 2"]
    assert oldest.with_suffix(".index").exists()


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


def test_small_segments_become_one(open_cache: Opener, kept: Path) -> None:
    texts = [f"text {n}" for n in range(40)]
    for text in texts:
        open_cache().encode([text], Encoder())
    assert len(files(kept, ".index")) == 40
    for file in files(kept, ".vectors"):
        os.utime(file, (1, 1))
    encode = Encoder()
    open_cache().encode(["one more"], encode)
    assert len(files(kept, ".index")) == 40 - 31 + 1
    assert is_right(open_cache().encode([*texts, "one more"], encode), [*texts, "one more"])
    assert encode.calls == [["one more"]]


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


def test_an_interrupted_write_leaves_what_was_written(open_cache: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_cache()
    write, count = segments._write, iter(range(100))

    def interrupted(file: int, content: bytes) -> None:
        if next(count) == 10:
            write(file, content[:11])
            raise KeyboardInterrupt
        write(file, content)

    monkeypatch.setattr(segments, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(TEXTS, Encoder())
    for reader in (open_cache(), cache):
        assert reader.missing(TEXTS) == TEXTS[4:]  # a header, then two writes each
    assert is_right(cache.encode(TEXTS, Encoder()), TEXTS)
    assert open_cache().missing(TEXTS) == []


def test_a_place_that_is_no_folder_is_refused(open_cache: Opener, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("mine")
    for given in (file, file / "below", tmp_path / "a\0b"):
        with pytest.raises(InvalidOptionsError, match=r"vectors=.*name a folder"):
            open_cache(vectors=given)
    assert file.read_text() == "mine"


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


def test_thousands_of_entries_open_quickly(open_cache: Opener) -> None:
    """Measured 0.02 s for 20,000 entries, and 0.3 s for 200,000."""
    texts = [str(n) for n in range(20_000)]
    vector = DocumentVectors((np.ones((1, WIDTH), np.float16),))
    open_cache().encode(texts, lambda given: [vector] * len(given))
    cache = open_cache()
    started = time.perf_counter()
    assert cache.missing(texts[:5]) == []
    assert time.perf_counter() - started < 2
