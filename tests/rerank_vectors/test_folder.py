"""A folder: what one cache writes others read, and whatever happens to its files costs vectors alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_models import WIDTH, Encoder, files, is_right

from rerank import InvalidOptionsError
from rerank_vectors import DocumentCache, DocumentVectors
from rerank_vectors import folder as folders
from rerank_vectors import segment as segments

Opener = Callable[..., DocumentCache]
TEXTS = [f"text {n} 🐝" for n in range(20)]
MIB = 2**20


def large(texts: list[str]) -> list[DocumentVectors]:
    """Documents of 28 KB, all with the last character's code."""
    return [DocumentVectors((np.full((600, WIDTH), ord(text[-1])),)) for text in texts]


def test_what_one_process_adds_another_finds(open_cache: Opener) -> None:
    reader, writer, encode = open_cache(), open_cache(), Encoder()
    assert reader.missing(TEXTS) == TEXTS
    for text in TEXTS:
        writer.encode([text], encode)
        assert is_right(reader.encode([text], encode), [text])
    assert encode.calls == [[text] for text in TEXTS]


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
    assert said["model"] == str(checkpoint.resolve())
    assert said["recipe"] == {"prompt": "käse"}
    assert (said["dimensions"], said["dtype"]) == (WIDTH, "fp16")
    about.write_bytes(content)
    assert open_cache({"prompt": "käse"}).missing(TEXTS) == []
    assert json.loads(about.read_text(encoding="utf-8")) == said
    assert [path.name for path in kept.glob("*/.*")] == []


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


def test_a_folder_that_does_not_exist_has_no_segments(kept: Path) -> None:
    assert folders.list_segments(kept) == []


def test_a_collection_has_few_files(open_cache: Opener, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_MOST_SEGMENTS", 5)
    open_cache({"n": 0}).encode(["oldest"], Encoder())
    texts = [f"text {n}" for n in range(8)]
    for text in texts:
        open_cache().encode([text], Encoder())
        time.sleep(0.02)  # so that their times differ
    assert open_cache().missing(texts) == texts[:3]
    assert open_cache({"n": 0}).missing(["oldest"]) == []


@pytest.mark.parametrize("collection", ["ours", "0" * 32])
@pytest.mark.parametrize("name", ["glove.840B.vectors", "glove.index", "foreign.vectors", "0" * 16 + ".vectors"])
def test_what_others_have_made_stays(open_cache: Opener, kept: Path, collection: str, name: str) -> None:
    open_cache().encode(TEXTS, Encoder())
    place = files(kept, ".index")[0].parent if collection == "ours" else kept / collection
    place.mkdir(exist_ok=True)
    (file := place / name).write_bytes(b"something else " * 10)
    assert open_cache().missing(TEXTS) == []
    assert sum(segment.size for segment in folders.list_segments(kept)) == size(kept) - 150
    folders.make_room(kept, 0)
    assert folders.list_segments(kept) == []
    assert file.read_bytes() == b"something else " * 10
    assert open_cache().missing(TEXTS) == TEXTS


def test_a_collection_of_another_user_is_passed_over(
    open_cache: Opener, kept: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (theirs := kept / ("0" * 32)).mkdir(parents=True)
    scandir = os.scandir

    def guarded(path: Path) -> Any:
        if path == theirs:
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    open_cache().encode(TEXTS, Encoder())
    assert open_cache().missing(TEXTS) == []
    assert not caplog.records


@pytest.mark.skipif(os.name == "nt", reason="makes links")
@pytest.mark.parametrize("linked", ["folder", "file"])
def test_what_lies_behind_links_stays(open_cache: Opener, kept: Path, tmp_path: Path, linked: str) -> None:
    open_cache(vectors=tmp_path / "elsewhere").encode(TEXTS, Encoder())
    (entries,) = files(tmp_path / "elsewhere", ".vectors")
    link = kept / ("0" * 32)
    kept.mkdir()
    if linked == "folder":
        link.symlink_to(entries.parent)
    else:
        link.mkdir()
        (link / entries.name).symlink_to(entries)
    assert folders.list_segments(kept) == []
    folders.make_room(kept, 0)
    assert open_cache(vectors=tmp_path / "elsewhere").missing(TEXTS) == []


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


def test_an_interrupted_write_leaves_what_was_written(open_cache: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_cache()
    write, count = segments._write, iter(range(100))

    def interrupted(file: int, content: bytes) -> None:
        if next(count) == 11:
            write(file, content[:11])
            raise KeyboardInterrupt
        write(file, content)

    monkeypatch.setattr(segments, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.encode(TEXTS, Encoder())
    for reader in (open_cache(), cache):
        assert reader.missing(TEXTS) == TEXTS[4:]  # two headers, then two writes each
    assert is_right(cache.encode(TEXTS, Encoder()), TEXTS)
    assert open_cache().missing(TEXTS) == []


def test_a_place_that_is_no_folder_is_refused(open_cache: Opener, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("mine")
    for given in (file, file / "below", tmp_path / "a\0b"):
        with pytest.raises(InvalidOptionsError, match=r"vectors=.*name a folder"):
            open_cache(vectors=given)
    assert file.read_text() == "mine"


def test_thousands_of_entries_open_quickly(open_cache: Opener) -> None:
    """Measured 0.02 s for 20,000 entries, and 0.3 s for 200,000."""
    texts = [str(n) for n in range(20_000)]
    vector = DocumentVectors((np.ones((1, WIDTH), np.float16),))
    open_cache().encode(texts, lambda given: [vector] * len(given))
    cache = open_cache()
    started = time.perf_counter()
    assert cache.missing(texts[:5]) == []
    assert time.perf_counter() - started < 2
