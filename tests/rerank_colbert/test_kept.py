"""Document vectors that are kept: the same scores, and no document encoded twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import QUERIES, TEXTS, save_stanford  # noqa: E402

from rerank import Reranker  # noqa: E402
from rerank_vectors import EncodesDocuments  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stanford(tmp_path_factory.mktemp("kept") / "model")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The documents that were turned into rows, which is what comes before encoding."""
    from rerank_colbert.rows import RowMaker

    seen: list[str] = []
    make = RowMaker.documents

    def noted(self: Any, texts: list[str], options: Any) -> Any:
        seen.extend(texts)
        return make(self, texts, options)

    monkeypatch.setattr(RowMaker, "documents", noted)
    return iter([seen])


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_document_seen_before_is_not_encoded_and_scores_the_same(
    folder: Path, tmp_path: Path, encoded: Iterator[list[str]], place: str, dtype: str
) -> None:
    seen = next(encoded)
    vectors = "memory" if place == "memory" else tmp_path / "vectors"
    with Reranker(folder) as fresh, Reranker(folder, vectors=vectors, vectors_dtype=dtype) as keeping:
        expected = {r.index: r.score for r in fresh.rank(QUERIES[0], TEXTS)}
        seen.clear()
        cold = keeping.rank(QUERIES[0], TEXTS)
        assert len(seen) == len(set(TEXTS))
        seen.clear()
        warm = keeping.rank(QUERIES[0], TEXTS)
        assert not seen
        assert warm == cold
        assert {r.index: r.score for r in cold} == pytest.approx(expected, abs=0.02 if dtype == "fp16" else 0.3)
        keeping.rank(QUERIES[1], [*TEXTS, "A new one."])
        assert seen == ["A new one."]


def test_another_process_finds_what_was_kept(folder: Path, tmp_path: Path, encoded: Iterator[list[str]]) -> None:
    seen = next(encoded)
    with Reranker(folder, vectors=tmp_path) as one:
        cold = one.rank(QUERIES[0], TEXTS)
    seen.clear()
    with Reranker(folder, vectors=tmp_path) as other:
        assert other.rank(QUERIES[0], TEXTS) == cold
    assert not seen


@pytest.mark.parametrize(
    "change", [{"max_length": 20}, {"long_documents": "chunk"}, {"long_documents": "chunk", "window": 40}]
)
def test_what_changes_the_vectors_is_told_apart(folder: Path, change: dict[str, Any]) -> None:
    with Reranker(folder) as fresh, Reranker(folder, vectors="memory") as keeping:
        keeping.rank(QUERIES[0], TEXTS)
        expected = {r.index: r.score for r in fresh.rank(QUERIES[0], TEXTS, **change)}
        changed = keeping.rank(QUERIES[0], TEXTS, **change)
        assert {r.index: r.score for r in changed} == pytest.approx(expected, abs=0.02)
        assert changed.diagnostics == fresh.rank(QUERIES[0], TEXTS, **change).diagnostics


def test_a_checkpoint_that_is_trained_again_does_not_meet_its_old_vectors(tmp_path: Path) -> None:
    folder = save_stanford(tmp_path / "model")
    with Reranker(folder, vectors=tmp_path / "kept") as reranker:
        reranker.rank(QUERIES[0], TEXTS)
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["linear.weight"] = -weights["linear.weight"].flip(0) + 0.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with Reranker(folder, vectors=tmp_path / "kept") as kept, Reranker(folder) as fresh:
        expected = {r.index: r.score for r in fresh.rank(QUERIES[0], TEXTS)}
        assert {r.index: r.score for r in kept.rank(QUERIES[0], TEXTS)} == pytest.approx(expected, abs=0.02)


def test_encoding_ahead_of_time(folder: Path, encoded: Iterator[list[str]]) -> None:
    seen = next(encoded)
    with Reranker(folder, vectors="memory") as reranker:
        scorer = reranker.scorer
        assert isinstance(scorer, EncodesDocuments)
        assert scorer.encode_documents([*TEXTS, TEXTS[0]], reranker.options) == len(set(TEXTS))
        assert scorer.encode_documents(TEXTS, reranker.options) == 0
        seen.clear()
        reranker.rank(QUERIES[0], TEXTS)
        assert not seen
