"""The same folders through sentence-transformers' own MultiVectorEncoder, in all three layouts; `nox -s peers` installs it."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import (
    EXPANSION,
    HIDDEN,
    METADATA,
    QUERIES,
    TEXTS,
    save_pylate,
    save_sentence_transformers,
    save_stanford,
)

pytest.importorskip("sentence_transformers", minversion="6", reason="needs sentence-transformers 6: nox -s peers")

from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Normalize

pytestmark = pytest.mark.filterwarnings("default")

SEVERAL = [
    {"in_features": HIDDEN, "out_features": 48, "bias": True, "use_residual": False},
    {"in_features": 48, "out_features": 20, "bias": False, "use_residual": False},
]
STRIPPED = [text.strip() for text in TEXTS]
"""PyLate strips texts, as we do for its checkpoints; sentence-transformers does not."""


def score(model: Any, texts: list[str] = TEXTS) -> list[list[float]]:
    return model.similarity(model.encode_query(QUERIES), model.encode_document(texts)).tolist()


def load(folder: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(str(folder), device="cpu")


@pytest.mark.parametrize("kind", ["bert", "modernbert", "xlm-roberta"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"query_expansion": {**EXPANSION, "strategy": "min"}},
        {"query_expansion": {**EXPANSION, "strategy": "min", "length": 16}, "query_length": 40},
        {"query_expansion": {**EXPANSION, "attend": True, "length": 12}},
        {"query_expansion": {**EXPANSION, "token": "e"}},
        {"query_expansion": None, "query_length": 20, "document_length": 30},
        {"query_expansion": None, "document_length": None},
        {"similarity": "meanmaxsim", "query_expansion": None},
        {"similarity": "meanmaxsim"},
        {"skiplist": [], "prompts": {}},
        {"skiplist": [".", ",", "?"], "skiplist_tasks": ["query", "document"], "query_expansion": None},
        {"prompts": {"query": "bees ", "document": "the flower of "}},
        {"prompts": {"query": "e", "document": "e "}},
        {"skiplist_tasks": ["query"]},
        {"skiplist_tasks": []},
        {"do_lower_case": True},
    ],
    ids=[
        "usual",
        "floor",
        "floor and ceiling",
        "attended",
        "another token",
        "unfilled",
        "unlimited",
        "mean",
        "mean of filled",
        "bare",
        "skipped in both",
        "words",
        "words of the vocabulary",
        "skipped in queries",
        "skipped in neither",
        "lowercased",
    ],
)
def test_its_layout(tmp_path, ours, same, kind, config):
    folder = save_sentence_transformers(tmp_path, kind, **config)
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize(
    "config",
    [{}, {"projections": SEVERAL}, {"do_query_expansion": False}, {"attend_to_expansion_tokens": True}],
    ids=["usual", "several", "unfilled", "attended"],
)
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_pylates_layout(tmp_path, ours, same, kind, config):
    folder = save_pylate(tmp_path, kind, **config)
    same(ours(folder, QUERIES, STRIPPED), score(load(folder), STRIPPED))


@pytest.mark.parametrize("metadata", [{}, {"attend_to_mask_tokens": True}, {"mask_punctuation": False}], ids=str)
def test_stanfords_layout(tmp_path, ours, same, metadata):
    folder = save_stanford(tmp_path, metadata={**METADATA, **metadata})
    same(ours(folder, QUERIES, TEXTS), score(load(folder)))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_checkpoint_that_it_saved(tmp_path, ours, same, kind):
    """Made from an encoder, with other modules than above."""
    encoder = save_pylate(tmp_path / "encoder", kind, words=[], projections=[])
    for file in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (encoder / file).unlink()
    made = MultiVectorEncoder(
        modules=[
            Transformer(str(encoder), query_expansion={"strategy": "fixed", "length": 24}, document_length=50),
            Dense(HIDDEN, 40, activation_function=torch.nn.Tanh(), module_input_name="token_embeddings"),
            Dense(40, 16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"),
            MultiVectorMask(list(string.punctuation)),
            Normalize(module_input_name="token_embeddings"),
        ],
        prompts={"query": "search_query: ", "document": "search_document: "},
        device="cpu",
    )
    made.save_pretrained(str(tmp_path / "made"))
    same(ours(tmp_path / "made", QUERIES, TEXTS), score(made))


@pytest.mark.parametrize("layout", [save_pylate, save_stanford])
def test_another_layout_that_it_saved(tmp_path, ours, same, layout):
    """Its own layout again, with the prefixes as prompts."""
    theirs = load(layout(tmp_path / "here"))
    theirs.save_pretrained(str(tmp_path / "theirs"))
    same(ours(tmp_path / "theirs", QUERIES, TEXTS), score(theirs))
