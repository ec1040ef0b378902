"""The contract that every backend must pass."""

import pytest

from rerank import InvalidOptionsError, Reranker
from rerank.testing.contract import BackendContract


class TestContract(BackendContract):
    better = ("how do bees dance?", "Bees dance in circles.", "Shares rose on Friday.")
    """A query, the document that must win, and one that must lose: write what your model was trained for."""

    @pytest.fixture
    def reranker(self):
        return Reranker("{{ cookiecutter.backend }}")


@pytest.mark.parametrize(
    "option", [{"long_documents": "chunk"}, {"window": 64}, {"overlap": 8}, {"aggregate": "mean"}], ids=min
)
def test_options_without_effect_are_refused(option):
    with pytest.raises(InvalidOptionsError, match="documents are read whole"):
        Reranker("{{ cookiecutter.backend }}", **option)
