"""The same folders through PyLate's own encoder and ranking; `nox -s pylate` installs it with an older sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import HIDDEN, MARKERS, METADATA, PREFIXES, QUERIES, TEXTS, change_json, save_pylate, save_stanford

models = pytest.importorskip("pylate.models", reason="needs PyLate: nox -s pylate")

from pylate import rank  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")

GELU = "torch.nn.modules.activation.GELU"
SEVERAL = [
    {"in_features": HIDDEN, "out_features": 48, "bias": True, "use_residual": True, "activation_function": GELU},
    {"in_features": 48, "out_features": 48, "bias": False, "use_residual": True, "activation_function": GELU},
    {"in_features": 48, "out_features": 20, "bias": False, "use_residual": False},
]


def load(folder: Path, **options: Any) -> Any:
    return models.ColBERT(str(folder), device="cpu", **options)


def score(model: Any) -> list[list[float]]:
    """Its scores, a document at a time: its ranking fills shorter documents with zeros, which can be the best match."""
    documents = model.encode(TEXTS, is_query=False)

    def rank_one(query: Any, document: Any) -> float:
        ((best,),) = rank.rerank(documents_ids=[[0]], queries_embeddings=[query], documents_embeddings=[[document]])
        return best["score"]

    return [[rank_one(query, document) for document in documents] for query in model.encode(QUERIES, is_query=True)]


@pytest.mark.parametrize("kind", ["bert", "modernbert", "xlm-roberta"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"projections": SEVERAL},
        {"do_query_expansion": False},
        {"attend_to_expansion_tokens": True},
        {"query_prefix": "", "document_prefix": "", "words": []},
        {"skiplist_words": ["bees", ",", "e"]},
        {"skiplist_words": []},
        {"query_length": 12, "document_length": 20},
    ],
    ids=["usual", "several", "unfilled", "attended", "bare", "words", "nothing", "short"],
)
def test_its_layout(tmp_path, ours, same, kind, config):
    folder = save_pylate(tmp_path, kind, **config)
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


def test_prefixes_that_the_vocabulary_has(tmp_path, ours, same):
    folder = save_pylate(tmp_path, query_prefix=MARKERS[0], document_prefix=MARKERS[1], words=[])
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


def test_a_checkpoint_of_its_first_releases(tmp_path, ours, same):
    """These said neither what the model is nor whether queries are filled."""
    folder = save_pylate(tmp_path, "modernbert")
    change_json(folder / "config_sentence_transformers.json", model_type=None, do_query_expansion=None, prompts=None)
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize("metadata", [{}, {"dim": 96, "query_maxlen": 20}, {"attend_to_mask_tokens": True}], ids=str)
def test_stanfords_layout(tmp_path, ours, same, metadata):
    folder = save_stanford(tmp_path, metadata={**METADATA, **metadata})
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_checkpoint_that_it_saved(tmp_path, ours, same, kind):
    """Made by PyLate from an encoder, which gets its prefixes and projections."""
    encoder = save_pylate(tmp_path / "encoder", kind, words=[], projections=[])
    for file in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (encoder / file).unlink()
    made = load(encoder, embedding_size=24, document_length=60)
    assert made.query_prefix == PREFIXES[0]
    made.append(models.Dense(24, 16, use_residual=True))
    made.save_pretrained(str(tmp_path / "made"))
    same(ours(tmp_path / "made", QUERIES, TEXTS), score(made))


def test_lengths_of_a_call(tmp_path, ours, same):
    folder = save_pylate(tmp_path, "modernbert")
    expected = score(load(folder, query_length=20, document_length=100))
    same(ours(folder, QUERIES, TEXTS, query_max_length=20, max_length=100), expected)


def test_spaces_around_a_text(tmp_path, ours, same):
    folder = save_pylate(tmp_path, "modernbert")
    queries, texts = ([f"  {text}\n" for text in texts] for texts in (QUERIES, TEXTS))
    same(ours(folder, queries, texts), score(load(folder)))
