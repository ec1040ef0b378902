"""The contract kit on every kind of graph."""

from __future__ import annotations

import pytest

from rerank import Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst

SHORT = DOCUMENTS[:5]


def by_pair(made):
    """The documents that win and lose by numpy's scores of the pairs."""
    return best_and_worst(QUERY, SHORT, [made.pair(QUERY, text) for text in SHORT])


class TestOneLogit(BackendContract):
    @pytest.fixture
    def reranker(self, toy):
        made = toy()
        self.better = by_pair(made)
        return Reranker(made.folder)


class TestTwoLogits(BackendContract):
    @pytest.fixture
    def reranker(self, toy):
        made = toy(labels=2, tokenizer="roberta", inputs=("input_ids", "attention_mask"))
        self.better = by_pair(made)
        return Reranker(made.folder)


class TestLateInteraction(BackendContract):
    better = (QUERY, QUERY, DOCUMENTS[1])
    """Whatever the weights are, a text is like itself."""

    @pytest.fixture
    def reranker(self, encoder):
        return Reranker(encoder.folder)


class TestDynamicQuantisation(BackendContract):
    batch_invariant = False

    @pytest.fixture
    def reranker(self, toy):
        made = toy(dynamic=True)
        self.better = by_pair(made)
        return Reranker(made.folder)


class TestDynamicQuantisationOneAtATime(BackendContract):
    @pytest.fixture
    def reranker(self, toy):
        made = toy(dynamic=True)
        self.better = by_pair(made)
        return Reranker(made.folder, batch_size=1)

    def test_batch_size_changes_nothing(self, reranker):
        pytest.skip("it is what holds these scores still")
