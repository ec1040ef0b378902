"""What a cache returns: the same vectors to the bit whether kept or new, and the right ones for every text and setting."""

from __future__ import annotations

import logging
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vector_models import WIDTH, Encoder, is_right, same, vectors_of

from rerank import InvalidOptionsError, ModelRef, ScoringError
from rerank.options import override_options, parse_options
from rerank_vectors import DocumentCache, DocumentVectors, VectorOptions, compare_in_groups, default_folder

Opener = Callable[..., DocumentCache]
TEXTS = ["a bee", "", "honey, 🐝 and café", "a bee", "蜜蜂", " ", "\x00", "long " * 40]
DISTINCT = list(dict.fromkeys(TEXTS))
PLACES = ["memory", "disk"]


def place(kind: str) -> dict[str, Any]:
    return {"vectors": "memory"} if kind == "memory" else {}


def test_without_a_place_the_arrays_pass_untouched(open_cache: Opener) -> None:
    cache = open_cache(vectors=None)
    made = {text: vectors_of(text) for text in DISTINCT}
    for _ in range(2):
        got = cache.encode(TEXTS, lambda texts: [made[text] for text in texts])
        assert all(document is made[text] for document, text in zip(got, TEXTS))
    assert cache.missing(TEXTS) == DISTINCT
    assert cache.encode([], Encoder()) == []
    cache.close()


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("kind", PLACES)
def test_kept_vectors_are_those_of_the_first_call_to_the_bit(open_cache: Opener, kind: str, dtype: str) -> None:
    cache, encode = open_cache(**place(kind), vectors_dtype=dtype), Encoder()
    assert cache.missing(TEXTS) == DISTINCT
    first = cache.encode(TEXTS, encode)
    assert encode.calls == [DISTINCT]
    assert cache.missing(TEXTS) == []
    assert same(cache.encode(TEXTS[::-1], encode), first[::-1])
    assert same(cache.encode(["new", *TEXTS], encode)[1:], first)
    assert encode.calls == [DISTINCT, ["new"]]
    assert all(window.dtype == ("f2" if dtype == "fp16" else "f4") for d in first for window in d.windows)
    if dtype == "fp16":
        assert is_right(first, TEXTS)
    assert [document.truncated for document in first] == [len(text) > 50 for text in TEXTS]
    if kind == "disk":
        cache.close()
        again = open_cache(vectors_dtype=dtype)
        assert same(again.encode(TEXTS, encode), first)
        assert len(encode.calls) == 2


@pytest.mark.parametrize("kind", PLACES)
def test_several_windows_and_windows_without_vectors(open_cache: Opener, kind: str) -> None:
    cache = open_cache(**place(kind))
    empty, some = np.empty((0, WIDTH), np.float32), np.ones((3, WIDTH), np.float32)
    given = {"mixed": (some, empty, 2 * some), "empty": (empty,), "none": ()}
    for _ in range(2):
        got = cache.encode(list(given), lambda texts: [DocumentVectors(given[text]) for text in texts])
        for document, windows in zip(got, given.values()):
            assert same([document], [DocumentVectors(tuple(w.astype(np.float16) for w in windows))])


def test_half_precision_from_disk_is_a_view_of_the_file(open_cache: Opener) -> None:
    open_cache().encode(TEXTS, Encoder())
    (document,) = open_cache().encode(["a bee"], Encoder())
    (window,) = document.windows
    base = window.base
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    assert not window.flags.writeable


def test_int8_is_within_half_a_step(open_cache: Opener) -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(0, 1, (500, WIDTH)) * 10.0 ** rng.integers(-6, 6, (500, 1))).astype(np.float32)
    vectors[7] = 0
    cache = open_cache(vectors="memory", vectors_dtype="int8")
    (document,) = cache.encode(["a"], lambda texts: [DocumentVectors((vectors,))])
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(document.windows[0] - vectors) <= 0.5001 * step).all()
    assert not document.windows[0][7].any()
    assert not document.windows[0].flags.writeable


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize(("value", "dtype"), [(np.nan, "fp16"), (np.inf, "int8"), (np.nan, "int8"), (1e5, "fp16")])
def test_what_cannot_be_kept_is_an_error_and_is_not_kept(
    open_cache: Opener, kind: str, value: float, dtype: str
) -> None:
    cache = open_cache(**place(kind), vectors_dtype=dtype)
    bad = np.full((2, WIDTH), 1, np.float32)
    bad[1, 3] = value
    with pytest.raises(ScoringError, match=r"begins with 'a text that.*not finite"):
        cache.encode(["a text that is bad"], lambda texts: [DocumentVectors((bad,))])
    assert cache.missing(["a text that is bad"]) == ["a text that is bad"]
    assert open_cache(vectors=None).encode(["a"], lambda texts: [DocumentVectors((bad,))])[0].windows[0] is bad


def test_large_values_fit_into_int8(open_cache: Opener) -> None:
    cache = open_cache(vectors="memory", vectors_dtype="int8")
    (document,) = cache.encode(["a"], lambda texts: [DocumentVectors((np.full((1, WIDTH), 1e5),))])
    assert document.windows[0] == pytest.approx(1e5)


@pytest.mark.parametrize("shape", [(WIDTH,), (2, WIDTH + 1)])
def test_vectors_of_another_shape_are_an_error(open_cache: Opener, shape: tuple[int, ...]) -> None:
    with pytest.raises(ScoringError, match="shape"):
        open_cache().encode(["a"], lambda texts: [DocumentVectors((np.zeros(shape),))])


def test_another_number_of_documents_is_an_error(open_cache: Opener) -> None:
    with pytest.raises(ScoringError, match="2 documents as 1"):
        open_cache().encode(["a", "b"], lambda texts: [vectors_of("a")])


@pytest.mark.parametrize("kind", PLACES)
def test_settings_make_other_entries(open_cache: Opener, kind: str) -> None:
    cache, encode = open_cache(**place(kind)), Encoder()
    settings: list[dict[str, Any]] = [{}, {"a": 1}, {"a": 2}, {"a": 1, "b": None}, {"a": [1]}]
    for given in settings:
        cache.encode(["text"], encode, given)
    assert len(encode.calls) == len(settings)
    for given in [*settings, {"b": None, "a": 1}]:
        assert cache.missing(["text"], given) == []
        cache.encode(["text"], encode, given)
    assert len(encode.calls) == len(settings)


def test_whatever_changes_vectors_makes_another_collection(open_cache: Opener, checkpoint: Path) -> None:
    encode = Encoder()
    for differing in ({}, {"recipe": {"prompt": "a"}}, {"recipe": {"prompt": "b"}}, {"vectors_dtype": "int8"}):
        open_cache(**differing).encode(["text"], encode)
    assert len(encode.calls) == 4
    other = checkpoint.parent / "other"
    os.renames(checkpoint, other)
    open_cache(model=other).encode(["text"], encode)
    assert len(encode.calls) == 5
    (other / "weights").write_bytes(b"4567")  # trained again, in place
    os.utime(other / "weights", ns=(1, 1))
    open_cache(model=other).encode(["text"], encode)
    assert len(encode.calls) == 6
    (other / "adapter").write_bytes(b"")
    open_cache(model=other).encode(["text"], encode)
    assert len(encode.calls) == 7
    open_cache(model=other).encode(["text"], encode)
    assert len(encode.calls) == 7


@pytest.mark.skipif(os.name == "nt", reason="there a file has no time that nobody can set")
def test_a_checkpoint_that_is_replaced_with_its_times(open_cache: Opener, checkpoint: Path) -> None:
    encode, weights = Encoder(), checkpoint / "weights"
    open_cache().encode(["text"], encode)
    before = weights.stat()
    time.sleep(0.02)  # so that the times differ
    weights.write_bytes(b"4567")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    open_cache().encode(["text"], encode)
    assert len(encode.calls) == 2


def test_vectors_in_the_folder_of_the_checkpoint(open_cache: Opener, checkpoint: Path) -> None:
    encode = Encoder()
    for text in ("text", "text", "another", "text"):
        open_cache(vectors=checkpoint).encode([text], encode)
    assert encode.calls == [["text"], ["another"]]
    (checkpoint / "weights").write_bytes(b"456789")
    open_cache(vectors=checkpoint).encode(["text"], encode)
    assert len(encode.calls) == 3


@pytest.mark.skipif(os.name == "nt", reason="makes a link")
def test_two_names_of_a_folder_share_its_vectors(open_cache: Opener, checkpoint: Path) -> None:
    encode = Encoder()
    (link := checkpoint.parent / "link").symlink_to(checkpoint)
    for model in (checkpoint, link):
        open_cache(model=model).encode(["text"], encode)
    assert len(encode.calls) == 1


def test_a_commit_on_the_hub_makes_a_collection(hub: Any, tmp_path: Path) -> None:
    options, encode = VectorOptions(vectors=tmp_path / "kept"), Encoder()
    for content, count in (("{}", 1), ("{}", 1), ('{"a": 1}', 2)):
        hub.add("owner/model", {"config.json": content})
        DocumentCache(options, ModelRef("owner/model"), {}, WIDTH).encode(["text"], encode)
        assert len(encode.calls) == count


def test_a_hub_cache_below_another_folder_named_snapshots(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "snapshots" / "daily"))
    options, encode = VectorOptions(vectors=tmp_path / "kept"), Encoder()
    for content, count in (("{}", 1), ('{"a": 1}', 2)):
        hub.add("owner/model", {"config.json": content})
        DocumentCache(options, ModelRef("owner/model"), {}, WIDTH).encode(["text"], encode)
        assert len(encode.calls) == count


def test_memory_drops_what_was_not_used_for_longest(open_cache: Opener) -> None:
    cache, encode = open_cache(vectors="memory", vectors_max_bytes=2**20), Encoder()

    def large(texts: list[str]) -> list[DocumentVectors]:
        return [DocumentVectors((np.full((5400, WIDTH), len(text)),)) for text in texts]  # a quarter of the bound

    for text in ("a", "bb", "ccc", "dddd"):
        cache.encode([text], large)
    cache.encode(["a"], encode)  # used
    cache.encode(["eeeee"], large)
    assert encode.calls == []
    assert cache.missing(["a", "bb", "ccc", "dddd", "eeeee"]) == ["bb"]
    assert cache._store._bytes <= 2**20  # type: ignore[union-attr]
    enormous = DocumentVectors((np.zeros((30_000, WIDTH)),))
    assert cache.encode(["enormous"], lambda texts: [enormous])[0].windows[0].shape == (30_000, WIDTH)
    assert cache.missing(["enormous", "a"]) == ["enormous"]


@pytest.mark.parametrize("kind", PLACES)
def test_threads_share_a_cache(open_cache: Opener, kind: str) -> None:
    cache = open_cache(**place(kind), vectors_max_bytes=2**20)  # small, so that entries come and go
    texts = [f"text {n} " * 5 for n in range(400)]

    def work(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        calls = [[texts[n] for n in rng.integers(0, len(texts), 40)] for _ in range(15)]
        return all(is_right(cache.encode(call, Encoder()), call) for call in calls)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.parametrize("given", ["", 3, 1, True, False, ["a"], [], b"x"])
def test_a_place_must_be_one(given: Any) -> None:
    with pytest.raises(InvalidOptionsError, match=r"'vectors': [^;]*give 'memory', 'disk' or a folder\. Its options"):
        parse_options(VectorOptions, {"vectors": given}, "test")


def test_a_home_folder_must_be_known() -> None:
    with pytest.raises(InvalidOptionsError, match="give the folder's whole path"):
        parse_options(VectorOptions, {"vectors": "~nobody-of-this-name/x"}, "test")


@pytest.mark.parametrize(("given", "meant"), [("Memory", "'memory'"), (" disk", "'disk'"), ("NONE", "None")])
def test_a_word_that_is_nearly_a_place_is_no_folder(given: str, meant: str) -> None:
    with pytest.raises(InvalidOptionsError, match=f"did you mean {meant}.*'./{given}'"):
        parse_options(VectorOptions, {"vectors": given}, "test")
    assert VectorOptions.model_validate({"vectors": f"./{given}"}).vectors == Path.cwd() / given


def test_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for home in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(home, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert VectorOptions(vectors="~/a").vectors == tmp_path / "a"
    assert VectorOptions(vectors="a/b").vectors_folder == tmp_path / "a" / "b"
    assert VectorOptions(vectors="memory").vectors_folder is None
    assert VectorOptions(vectors=Path("memory")).vectors_folder == tmp_path / "memory"
    named, usual = ("LOCALAPPDATA", "AppData/Local") if os.name == "nt" else ("XDG_CACHE_HOME", ".cache")
    monkeypatch.delenv(named, raising=False)
    assert VectorOptions(vectors="disk").vectors_folder == default_folder() == tmp_path / usual / "rerank/vectors"
    monkeypatch.setenv(named, str(tmp_path / "c"))
    assert default_folder() == tmp_path / "c/rerank/vectors"
    for name in ("vectors", "vectors_dtype", "vectors_max_bytes"):
        with pytest.raises(InvalidOptionsError, match=f"'{name}' is fixed when the model loads"):
            override_options(VectorOptions(), {name: None}, "test")
    with pytest.raises(InvalidOptionsError, match="vectors_max_bytes"):
        parse_options(VectorOptions, {"vectors_max_bytes": 2**20 - 1}, "test")


def test_importing_is_cheap() -> None:
    code = "import sys, rerank_vectors, rerank_vectors.plugin; print('numpy' in sys.modules, 'tqdm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_nothing_is_logged_where_all_is_well(open_cache: Opener, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_cache().encode(TEXTS, Encoder())
        open_cache().encode(TEXTS, Encoder())
    assert not caplog.records


def test_documents_come_in_groups_of_bounded_size(open_cache: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerank_vectors.cache.HELD_DOCUMENTS", 3)
    monkeypatch.setattr("rerank_vectors.cache.HELD_CHARACTERS", 10)
    texts = ["a", "b", "c", "d", "12345", "67890", "x" * 40, "y"]
    groups = list(open_cache(vectors=None).groups(texts, Encoder()))
    assert [len(group) for group in groups] == [3, 2, 1, 1, 1]
    assert same([document for group in groups for document in group], [vectors_of(text) for text in texts])


def test_documents_of_several_requests_are_compared_group_by_group() -> None:
    groups = iter([[vectors_of("a"), vectors_of("b")], [vectors_of("c"), vectors_of("x" * 60)]])
    seen: list[tuple[int, int]] = []

    def compare(request: int, documents: list[DocumentVectors]) -> list[float]:
        seen.append((request, len(documents)))
        return [float(request)] * len(documents)

    assert list(compare_in_groups(groups, [1, 0, 3], compare)) == [([0.0], 0), ([], 0), ([2.0] * 3, 1)]
    assert seen == [(0, 1), (2, 1), (2, 2)]


def test_documents_that_are_missing_are_an_error() -> None:
    with pytest.raises(ScoringError, match="2 documents"):
        list(compare_in_groups(iter([]), [2], lambda request, documents: []))


def test_filling_counts_what_was_encoded_and_needs_a_place(open_cache: Opener) -> None:
    assert open_cache(vectors="memory").fill(["a", "a", "x" * 60], Encoder()) == (2, 1)
    with pytest.raises(InvalidOptionsError, match="kept nowhere"):
        open_cache(vectors=None).fill(["a"], Encoder())


def test_a_comparison_that_loses_a_score_takes_no_other_requests_document() -> None:
    groups = iter([[vectors_of("a"), vectors_of("b"), vectors_of("c")]])
    seen: list[tuple[int, int]] = []

    def compare(request: int, documents: list[DocumentVectors]) -> list[float]:
        seen.append((request, len(documents)))
        return [1.0] * (len(documents) - 1)

    assert [values for values, _ in compare_in_groups(groups, [2, 1], compare)] == [[1.0], []]
    assert seen == [(0, 2), (1, 1)]
