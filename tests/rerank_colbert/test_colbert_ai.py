"""The same folders through colbert-ai's own tokenizers, encoder and scores; `nox -s colbert_ai` installs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import METADATA, QUERIES, TEXTS, save_stanford

modeling = pytest.importorskip("colbert.modeling.colbert", reason="needs colbert-ai: nox -s colbert_ai")

from colbert.infra import ColBERTConfig  # noqa: E402
from colbert.modeling.checkpoint import Checkpoint  # noqa: E402

from rerank import Reranker  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")
modeling.ColBERT.loaded_extensions = True  # else it compiles what compares packed vectors, which nothing here uses


def load(folder: Path, **config: Any) -> Checkpoint:
    checkpoint = Checkpoint(str(folder), colbert_config=ColBERTConfig(checkpoint=str(folder), **config), verbose=0)
    if not checkpoint.colbert_config.mask_punctuation:
        checkpoint.skiplist = {}  # it sets none then, and asks for it all the same
    return checkpoint


def score(checkpoint: Checkpoint) -> list[list[float]]:
    vectors, compared = checkpoint.doc(*checkpoint.doc_tokenizer.tensorize(TEXTS), keep_dims="return_mask")
    config = checkpoint.colbert_config
    return [
        modeling.colbert_score(checkpoint.queryFromText([query]), vectors, compared, config).tolist()
        for query in QUERIES
    ]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"dim": 96},
        {"attend_to_mask_tokens": True},
        {"mask_punctuation": False},
        {"query_maxlen": 12, "doc_maxlen": 20},
        {"query_token_id": "[unused7]", "doc_token_id": "bees"},
    ],
    ids=str,
)
def test_bert(tmp_path, ours, same, metadata):
    folder = save_stanford(tmp_path, metadata={**METADATA, **metadata})
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize("pickled", [False, True])
def test_without_metadata(tmp_path, ours, same, pickled):
    """Its defaults hold: 32 and 220 tokens, and the first two unused ones as markers."""
    folder = save_stanford(tmp_path, metadata=None, pickled=pickled)
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize("markers", [{"query_token_id": "q", "doc_token_id": "d"}, {}], ids=["letters", "unknown"])
def test_xlm_roberta(tmp_path, ours, same, markers):
    """Punctuation is the first token of each mark, here mostly the space before it; a marker it lacks is the unknown token."""
    folder = save_stanford(tmp_path, "xlm-roberta", metadata={**METADATA, **markers})
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


def test_modernbert(tmp_path, ours, same):
    folder = save_stanford(tmp_path, "modernbert", metadata={**METADATA, "query_token_id": "q", "doc_token_id": "d"})
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize("lengths", [(12, 20), (40, 64)])
def test_lengths_of_a_call(tmp_path, ours, same, lengths):
    folder = save_stanford(tmp_path)
    query_length, length = lengths
    expected = score(load(folder, query_maxlen=query_length, doc_maxlen=length))
    same(ours(folder, QUERIES, TEXTS, query_max_length=query_length, max_length=length), expected)


def test_a_checkpoint_that_it_saved(tmp_path, ours, same):
    theirs = load(save_stanford(tmp_path / "here"))
    theirs.save(str(tmp_path / "theirs"))
    same(ours(tmp_path / "theirs", QUERIES, TEXTS), score(theirs))


def test_tokens(tmp_path):
    """Ids, attention and what counts, token by token."""
    folder = save_stanford(tmp_path)
    theirs = load(folder)
    with Reranker(folder, device="cpu") as reranker:
        rows, options = reranker.scorer.rows, reranker.options
        queries = [row for row, _ in rows.queries(QUERIES, options)]
        documents = [row for (row,), _ in rows.documents(TEXTS, options)]
    ids, attended = theirs.query_tokenizer.tensorize(QUERIES)
    assert [list(text.tokens.ids) for text in queries] == ids.tolist()
    assert [len(text.tokens.ids) - text.tokens.unattended for text in queries] == attended.sum(dim=1).tolist()
    assert all(text.compared.all() for text in queries)
    ids, attended = theirs.doc_tokenizer.tensorize(TEXTS)
    assert [list(text.tokens.ids) for text in documents] == [
        row[: sum(a)] for row, a in zip(ids.tolist(), attended.tolist())
    ]
    counted = theirs.mask(ids, theirs.skiplist)
    assert [text.compared.tolist() for text in documents] == [
        row[: len(t.compared)] for row, t in zip(counted, documents)
    ]
