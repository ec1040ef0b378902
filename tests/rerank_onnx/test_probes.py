"""What a graph is asked at load: how many tokens it reads, and where its positions begin."""

from __future__ import annotations

import numpy as np
import pytest

from rerank import Reranker

INPUTS = ("input_ids", "attention_mask", "position_ids")
LONG = "bees find flowers " * 3000


def test_a_table_smaller_than_the_configuration_says_is_found(toy):
    model = toy(inputs=INPUTS, config={"max_position_embeddings": 900})
    with Reranker(model.folder, backend="onnx") as reranker:
        assert reranker.rank("bees", [LONG, "bees"]).diagnostics["truncated"] == 1
        assert reranker.scorer.limits.longest == 512


def test_positions_of_robertas_kind_begin_behind_the_padding(toy):
    config = {"model_type": "roberta", "pad_token_id": 1}
    model = toy(inputs=INPUTS, tokenizer="roberta", config=config)
    encoding = model.tokenizer.encode("bees", "flowers")
    model.weights["positions"][:] = np.roll(model.weights["positions"], -2, axis=0)
    with Reranker(model.folder, backend="onnx") as reranker:
        assert reranker.score("bees", "flowers") == pytest.approx(model.row(encoding.ids, encoding.type_ids), abs=1e-4)
