"""The contract kit on every kind of graph."""

from __future__ import annotations

import pytest

from rerank import Reranker
from rerank.testing.contract import BackendContract


class TestOneLogit(BackendContract):
    @pytest.fixture
    def reranker(self, toy):
        return Reranker(toy().folder)


class TestTwoLogits(BackendContract):
    @pytest.fixture
    def reranker(self, toy):
        return Reranker(toy(labels=2, tokenizer="roberta", inputs=("input_ids", "attention_mask")).folder)


class TestLateInteraction(BackendContract):
    @pytest.fixture
    def reranker(self, encoder):
        return Reranker(encoder.folder)


class TestDynamicQuantisation(BackendContract):
    batch_invariant = False

    @pytest.fixture
    def reranker(self, toy):
        return Reranker(toy(dynamic=True).folder)


class TestDynamicQuantisationOneAtATime(BackendContract):
    @pytest.fixture
    def reranker(self, toy):
        return Reranker(toy(dynamic=True).folder, batch_size=1)

    def test_batch_size_changes_nothing(self, reranker):
        pytest.skip("it is what holds these scores still")
