"""T5's scores equal a bare forward pass over the whole prompt and the whole output matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rerank import Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst

TEXTS = [*DOCUMENTS, "", "A nurse bee feeds larvae. " * 12]


class Naive:
    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.network = transformers.T5ForConditionalGeneration.from_pretrained(folder).eval()

    @torch.no_grad()
    def logits(self, text: str, *target: int) -> torch.Tensor:
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        assert ids[0, -1] == self.tokenizer.eos_token_id
        return self.network(input_ids=ids, decoder_input_ids=torch.tensor([[0, *target]])).logits[0]


def scores(ranked: Any) -> list[float]:
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


@pytest.fixture(scope="module")
def naive(t5: Path) -> Naive:
    return Naive(t5)


def test_monot5(t5: Path, naive: Naive) -> None:
    with Reranker(t5) as reranker:
        assert reranker.backend == "t5"
        ranked = reranker.rank(QUERY, TEXTS)
    true, false = naive.tokenizer.convert_tokens_to_ids(["▁true", "▁false"])
    for text, score in zip(TEXTS, scores(ranked)):
        logits = naive.logits(f"Query: {QUERY} Document: {text} Relevant:")[0]
        assert score == pytest.approx(float(logits[true] - logits[false]), abs=1e-4)
    assert ranked.scale == "logit"


def test_rankt5(t5: Path, naive: Naive) -> None:
    with Reranker(t5, model_type="t5", recipe="rankt5") as reranker:
        found = scores(reranker.rank(QUERY, TEXTS))
    extra = naive.tokenizer.convert_tokens_to_ids("<extra_id_10>")
    for text, score in zip(TEXTS, found):
        logits = naive.logits(f"Query: {QUERY} Document: {text}")[0]
        assert score == pytest.approx(float(logits[extra]), abs=1e-4)


def test_upr(t5: Path, naive: Naive) -> None:
    with Reranker(t5, backend="t5", recipe="upr") as reranker:
        ranked = reranker.rank(QUERY, TEXTS)
    target = naive.tokenizer(QUERY)["input_ids"]
    for text, score in zip(TEXTS, scores(ranked)):
        logits = naive.logits(f"Passage: {text}. Please write a question based on this passage.", *target[:-1])
        likely = logits.log_softmax(dim=-1).gather(1, torch.tensor(target)[:, None]).sum()
        assert score == pytest.approx(float(likely), abs=1e-3)
    assert ranked.scale == "similarity"


def test_a_template_and_tokens_of_the_users_own(t5: Path, naive: Naive) -> None:
    options = {"inputs_template": "{text} asks {query}?", "token_true": "▁false", "token_false": "▁true"}
    with Reranker(t5, backend="t5", **options) as reranker:
        score = reranker.score(QUERY, DOCUMENTS[0])
    true, false = naive.tokenizer.convert_tokens_to_ids(["▁true", "▁false"])
    logits = naive.logits(f"{DOCUMENTS[0]} asks {QUERY}?")[0]
    assert score == pytest.approx(float(logits[false] - logits[true]), abs=1e-4)


class TestContract(BackendContract):
    @pytest.fixture
    def reranker(self, t5: Path, naive: Naive) -> Any:
        true, false = naive.tokenizer.convert_tokens_to_ids(["▁true", "▁false"])
        logits = [naive.logits(f"Query: {QUERY} Document: {text} Relevant:")[0] for text in DOCUMENTS]
        self.better = best_and_worst(QUERY, DOCUMENTS, [float(row[true] - row[false]) for row in logits])
        with Reranker(t5, backend="t5") as reranker:
            yield reranker
