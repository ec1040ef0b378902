"""Scores that the models' authors publish, with models from the hub: ``RERANK_HUB_TESTS=1 pytest tests/published.py``.

It downloads gigabytes, so its name does not match ``test_*.py`` and no session runs it.
"""

from __future__ import annotations

import os

import pytest

from rerank import Reranker

pytestmark = [
    pytest.mark.skipif(os.environ.get("RERANK_HUB_TESTS") != "1", reason="downloads models: set RERANK_HUB_TESTS=1"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

PANDA = (
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species endemic "
    "to China."
)
PAIRS = [("what is panda?", "hi"), ("what is panda?", PANDA)]


@pytest.mark.parametrize(
    ("model", "dtype", "tolerance", "one", "two"),
    [
        ("BAAI/bge-reranker-v2-m3", "fp16", 0.02, -5.65234375, [-8.1875, 5.26171875]),
        ("BAAI/bge-reranker-base", "fp32", 1e-3, 0.4474879801, [-8.1543922424, 6.1821117401]),
    ],
)
def test_bge_scores_what_its_authors_publish(model, dtype, tolerance, one, two):
    with Reranker(model, dtype=dtype) as reranker:
        assert reranker.score("query", "passage") == pytest.approx(one, abs=tolerance)
        assert reranker.score_pairs(PAIRS) == pytest.approx(two, abs=tolerance)


def test_bge_normalizes_to_what_its_authors_publish():
    with Reranker("bge-reranker-v2-m3", use_fp16=True, normalize=True) as reranker:
        assert reranker.score("query", "passage") == pytest.approx(0.003497010, abs=1e-4)
        assert reranker.score_pairs(PAIRS) == pytest.approx([0.000278031, 0.994840377], abs=1e-4)
