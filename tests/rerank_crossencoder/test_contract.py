"""The contract kit on every architecture."""

from __future__ import annotations

import pytest

from rerank import Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst


@pytest.fixture(scope="module")
def loaded(checkpoint):
    held = {}

    def load(kind, **config):
        key = (kind, *config.items())
        if key not in held:
            held[key] = Reranker(checkpoint(kind, **config), dtype="fp32", device="cpu", progress=False)
        return held[key]

    return load


@pytest.fixture(scope="module")
def judge(checkpoint, bare):
    """The documents that win and lose by a plain forward of the same checkpoint."""

    def best(kind, **config):
        logits = bare(checkpoint(kind, **config), QUERY, DOCUMENTS)
        return best_and_worst(QUERY, DOCUMENTS, [row[-1] - (row[0] if len(row) == 2 else 0) for row in logits])

    return best


class TestBert(BackendContract):
    @pytest.fixture
    def reranker(self, loaded, judge):
        self.better = judge("bert")
        return loaded("bert")


class TestTwoOutputs(BackendContract):
    @pytest.fixture
    def reranker(self, loaded, judge):
        self.better = judge("electra", num_labels=2)
        return loaded("electra", num_labels=2)


class TestXlmRoberta(BackendContract):
    @pytest.fixture
    def reranker(self, loaded, judge):
        self.better = judge("xlm-roberta")
        return loaded("xlm-roberta")


class TestModernBert(BackendContract):
    @pytest.fixture
    def reranker(self, loaded, judge):
        self.better = judge("modernbert")
        return loaded("modernbert")


class TestDebertaV2(BackendContract):
    @pytest.fixture
    def reranker(self, loaded, judge):
        self.better = judge("deberta-v2")
        return loaded("deberta-v2")
