"""The contract kit on every architecture."""

from __future__ import annotations

import pytest

from rerank import Reranker
from rerank.testing.contract import BackendContract


@pytest.fixture(scope="module")
def loaded(checkpoint):
    held = {}

    def load(kind, **config):
        key = (kind, *config.items())
        if key not in held:
            held[key] = Reranker(checkpoint(kind, **config), dtype="fp32", device="cpu", progress=False)
        return held[key]

    return load


class TestBert(BackendContract):
    @pytest.fixture
    def reranker(self, loaded):
        return loaded("bert")


class TestTwoOutputs(BackendContract):
    @pytest.fixture
    def reranker(self, loaded):
        return loaded("electra", num_labels=2)


class TestXlmRoberta(BackendContract):
    @pytest.fixture
    def reranker(self, loaded):
        return loaded("xlm-roberta")


class TestModernBert(BackendContract):
    @pytest.fixture
    def reranker(self, loaded):
        return loaded("modernbert")


class TestDebertaV2(BackendContract):
    @pytest.fixture
    def reranker(self, loaded):
        return loaded("deberta-v2")
