"""MaxSim beside three plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_colbert.maxsim import maxsim


def by_loops(query: np.ndarray, document: np.ndarray) -> float:
    total = 0.0
    for vector in query.tolist():
        best = float("-inf")
        for other in document.tolist():
            best = max(best, sum(a * b for a, b in zip(vector, other)))
        total += best
    return total


@given(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from(["f2", "f4"]), st.data())
def test_equals_three_loops_on_ragged_documents(
    query_len: int, lengths: list[int], dtype: str, data: st.DataObject
) -> None:
    numbers = np.random.default_rng(data.draw(st.integers(0, 1000)))
    query = numbers.standard_normal((query_len, 5), dtype=np.float32)
    documents = [numbers.standard_normal((length, 5)).astype(dtype) for length in lengths]
    expected = [by_loops(query, document.astype(np.float32)) for document in documents]
    assert maxsim(query, documents).tolist() == pytest.approx(expected, abs=1e-4)


def test_similarities_below_zero_stay_below_zero() -> None:
    query = np.array([[1.0, 0.0], [0.8, 0.6]], dtype=np.float32)
    documents = [-query[:1], -query, np.array([[-1.0, 0.0]] * 7, dtype=np.float32)]
    expected = [by_loops(query, document) for document in documents]
    assert max(expected) < 0
    assert maxsim(query, documents).tolist() == pytest.approx(expected)


def test_one_token_each() -> None:
    query = np.array([[0.6, 0.8]], dtype=np.float32)
    assert maxsim(query, [np.array([[0.0, 1.0]], dtype=np.float32)]).tolist() == pytest.approx([0.8])


def test_does_not_depend_on_the_other_documents() -> None:
    numbers = np.random.default_rng(0)
    query = numbers.standard_normal((32, 128), dtype=np.float32)
    documents = [numbers.standard_normal((length, 128), dtype=np.float32) for length in (3, 180, 1, 77)]
    together = maxsim(query, documents)
    alone = [float(maxsim(query, [document])[0]) for document in documents]
    assert together.tolist() == pytest.approx(alone, abs=1e-4)
