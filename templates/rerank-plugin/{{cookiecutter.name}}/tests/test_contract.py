"""The contract that every backend must pass."""

import pytest

from rerank import Reranker
from rerank.testing.contract import BackendContract


class TestContract(BackendContract):
    @pytest.fixture
    def reranker(self):
        return Reranker("{{ cookiecutter.backend }}")
