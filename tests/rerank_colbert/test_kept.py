"""Document vectors that are kept: the same scores, and no document encoded twice."""

from __future__ import annotations

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
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The documents that were turned into rows, which is what comes before encoding."""
    from rerank_colbert.rows import RowMaker

    seen: list[str] = []
    make = RowMaker.documents

    def noted(self: Any, texts: list[str], options: Any) -> Any:
        seen.extend(texts)
        return make(self, texts, options)

    monkeypatch.setattr(RowMaker, "documents", noted)
    return seen


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_a_document_seen_before_is_not_encoded_and_scores_the_same(
    folder: Path, tmp_path: Path, encoded: list[str], place: str, dtype: str
) -> None:
    vectors = "memory" if place == "memory" else tmp_path / "vectors"
    with Reranker(folder) as fresh, Reranker(folder, vectors=vectors, vectors_dtype=dtype) as keeping:
        expected = {r.index: r.score for r in fresh.rank(QUERIES[0], TEXTS)}
        encoded.clear()
        cold = keeping.rank(QUERIES[0], TEXTS)
        assert len(encoded) == len(set(TEXTS))
        encoded.clear()
        warm = keeping.rank(QUERIES[0], TEXTS)
        assert not encoded
        assert warm == cold
        assert {r.index: r.score for r in cold} == pytest.approx(expected, abs=0.02 if dtype == "fp16" else 0.3)
        keeping.rank(QUERIES[1], [*TEXTS, "A new one."])
        assert encoded == ["A new one."]


def test_another_process_finds_what_was_kept(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    with Reranker(folder, vectors=tmp_path) as one:
        cold = one.rank(QUERIES[0], TEXTS)
    encoded.clear()
    with Reranker(folder, vectors=tmp_path) as other:
        assert other.rank(QUERIES[0], TEXTS) == cold
    assert not encoded


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


def test_encoding_ahead_of_time(folder: Path, encoded: list[str]) -> None:
    with Reranker(folder, vectors="memory") as reranker:
        scorer = reranker.scorer
        assert isinstance(scorer, EncodesDocuments)
        filled = scorer.encode_documents([*TEXTS, TEXTS[0]], reranker.options)
        assert (filled.encoded, filled.truncated) == (len(set(TEXTS)), 2)
        assert scorer.encode_documents(TEXTS, reranker.options).encoded == 0
        encoded.clear()
        reranker.rank(QUERIES[0], TEXTS)
        assert not encoded
