"""A document's score depends on no other document: where padding changes vectors, only equal lengths share a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import QUERIES, SHAPE, TEXTS, save_tokenizer  # noqa: E402

from rerank import Reranker  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # those of transformers, in models of its own


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str], Path]:
    """Writes an encoder that was not trained for late interaction."""

    def build(kind: str, **config: Any) -> Path:
        size = save_tokenizer(tmp_path, "bert")
        torch.manual_seed(3)
        settings = getattr(transformers, f"{kind}Config")(vocab_size=size, **{**SHAPE, **config})
        getattr(transformers, f"{kind}Model")(settings).eval().save_pretrained(tmp_path)
        return tmp_path

    return build


@pytest.mark.parametrize(
    ("kind", "pads"), [("Bert", True), ("FNet", False), ("ConvBert", False), ("Nystromformer", False)]
)
def test_a_score_is_that_of_the_document_alone(save: Callable[..., Path], kind: str, pads: bool) -> None:
    with Reranker(save(kind, embedding_size=32), backend="colbert", device="cpu", threads=1) as reranker:
        device = reranker.scorer.runner._run  # type: ignore[attr-defined]
        forward, batches = device.forward, []
        device.forward = lambda batch: batches.append({*batch.lengths}) or forward(batch)
        ranked = reranker.rank(QUERIES[0], TEXTS)
        assert any(len(lengths) > 1 for lengths in batches) == pads
        for result in ranked:
            assert result.score == pytest.approx(reranker.score(QUERIES[0], result.text), abs=1e-4)


def test_an_unknown_type_is_run_at_its_limit(save: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a type of RoBERTa's kind that came after this version, whose positions begin behind the padding's."""
    monkeypatch.setattr("rerank.tokens.POSITIONS_BEHIND_PADDING", frozenset())
    monkeypatch.setattr("rerank_colbert.scorer.knows_positions", lambda config: False)
    folder = save("Roberta", pad_token_id=0)
    with Reranker(folder, backend="colbert", device="cpu") as reranker:
        assert reranker.scorer.rows.limits.longest == SHAPE["max_position_embeddings"] - 1  # type: ignore[attr-defined]
        assert len(reranker.rank(QUERIES[0], [TEXTS[-1] * 9, "bees"])) == 2
