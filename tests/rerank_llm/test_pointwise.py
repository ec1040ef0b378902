"""Scores equal a naive loop that renders the whole prompt and reads the full logits; a shared prefix changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from language_models import FAMILIES, save_causal

from rerank import InvalidOptionsError, ModelLoadError, Reranker, ScoringError
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst
from rerank_llm.forwards.causal import CausalForward

SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
INSTRUCT = "Given a web search query, retrieve relevant passages that answer the query"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
TEXTS = [*DOCUMENTS, "", "A nurse bee feeds larvae. " * 12, "熊猫是中国的熊。"]

Build = Callable[..., Path]


class Naive:
    """One row at a time, without padding, through transformers' own tokenizer and the whole output matrix."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.network = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()

    @torch.no_grad()
    def logits(self, *pieces: str, begin: int | None = None) -> torch.Tensor:
        ids = [] if begin is None else [begin]
        for piece in pieces:
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return self.network(torch.tensor([ids])).logits[0].float()

    def verdict(self, text: str) -> int:
        (id_,) = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return int(id_)

    def qwen3(self, query: str, document: str) -> float:
        body = f"<Instruct>: {INSTRUCT}\n<Query>: {query}\n<Document>: {document}"
        last = self.logits(SYSTEM, body, SUFFIX)[-1]
        return float(last[self.verdict("yes")] - last[self.verdict("no")])

    def gemma(self, query: str, document: str) -> float:
        task = (
            "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
            "providing a prediction of either 'Yes' or 'No'."
        )
        last = self.logits(f"A: {query}", "\n", f"B: {document}", "\n", task, begin=1)[-1]
        return float(last[self.verdict("Yes")])


REUSABLE = {*FAMILIES} - {"modernbert-decoder"}


def scores(ranked: Any) -> list[float]:
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


@pytest.mark.parametrize(
    ("family", "reuse"),
    [*((family, False) for family in FAMILIES), *((family, True) for family in FAMILIES if family in REUSABLE)],
)
def test_scores_are_those_of_a_naive_loop(causal: Build, family: str, reuse: bool) -> None:
    folder = causal(family)
    naive = Naive(folder)
    with Reranker(folder, backend="llm-pointwise", recipe="qwen3", prefix_reuse=reuse, max_length=900) as reranker:
        ranked = reranker.rank(QUERY, TEXTS, max_batch_tokens=700)
    assert scores(ranked) == pytest.approx([naive.qwen3(QUERY, text) for text in TEXTS], abs=1e-4)
    assert ranked.scale == "logit"
    assert bool(ranked.diagnostics["prefix"]) == reuse


@pytest.mark.parametrize("reuse", [False, True])
def test_the_logit_of_one_verdict(causal: Build, reuse: bool) -> None:
    folder = causal("gemma2")
    naive = Naive(folder)
    # the configuration's bos is 1, since the tokenizer has none
    with Reranker(folder, backend="llm-pointwise", recipe="bge-gemma", prefix_reuse=reuse) as reranker:
        ranked = reranker.rank(QUERY, TEXTS)
        normalized = reranker.rank(QUERY, TEXTS, normalize=True)
    assert scores(ranked) == pytest.approx([naive.gemma(QUERY, text) for text in TEXTS], abs=1e-4)
    assert scores(normalized) == pytest.approx([torch.tensor(s).sigmoid().item() for s in scores(ranked)], abs=1e-6)


def test_nothing_is_reused_where_the_query_stands_after_the_document(causal: Build) -> None:
    with Reranker(causal(), backend="llm-pointwise", recipe="ctxl-v2") as reranker:
        for texts in (["Tea. " * 60, "Honey. " * 60, "Bees. " * 60, "Pollen. " * 60], DOCUMENTS):
            assert reranker.rank(QUERY, texts).diagnostics["prefix"] == 0
        assert reranker.rank(QUERY, DOCUMENTS, instruction="Prefer bees.").scale == "logit"


def test_a_prefix_is_reused_where_it_pays(causal: Build) -> None:
    with Reranker(causal(), backend="llm-pointwise", recipe="qwen3") as reranker:
        assert reranker.rank(QUERY, [f"{text} {n}" for n, text in enumerate(DOCUMENTS * 2)]).diagnostics["prefix"] > 30
        assert reranker.rank(QUERY, DOCUMENTS[:1]).diagnostics["prefix"] == 0


def test_a_reused_prefix_counts_in_the_budget_of_a_batch(causal: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row holds the prefix's keys and values, so that a long query makes batches of fewer documents."""
    seen: list[int] = []
    original = CausalForward.__call__

    def spy(self: CausalForward, batch: Any) -> Any:
        seen.append(len(batch.ids) * (len(batch.shared) + batch.ids.shape[1]))
        return original(self, batch)

    monkeypatch.setattr(CausalForward, "__call__", spy)
    with Reranker(causal(), backend="llm-pointwise", recipe="qwen3", prefix_reuse=True) as reranker:
        reranker.rank(QUERY * 8, [f"{text} {n}" for n, text in enumerate(DOCUMENTS[:3] * 8)], max_batch_tokens=2_000)
    assert len(seen) > 1
    assert max(seen) <= 2_000


@pytest.mark.parametrize("rope", [{"rope_type": "dynamic"}, {"rope_type": "longrope"}, {"type": "su"}])
def test_no_prefix_is_reused_where_positions_depend_on_the_length_of_a_row(
    causal: Build, tmp_path: Path, rope: dict[str, str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(causal("llama"), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("rope_parameters", None)
    factors = {"factor": 2.0, "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    (folder / "config.json").write_text(json.dumps({**config, "rope_scaling": {**rope, **factors}}), encoding="utf-8")
    with pytest.raises(InvalidOptionsError, match="cannot reuse a prefix"):
        Reranker(folder, backend="llm-pointwise", recipe="qwen3", prefix_reuse=True)


def test_several_queries_share_batches(causal: Build) -> None:
    folder = causal()
    with Reranker(folder, backend="llm-pointwise", recipe="qwen3", prefix_reuse=False) as reranker:
        requests = [(QUERY, DOCUMENTS), ("what is tea?", DOCUMENTS[:2]), (QUERY, [])]
        for (query, texts), ranked in zip(requests, reranker.rank_many(requests)):
            assert scores(ranked) == pytest.approx(scores(reranker.rank(query, texts)), abs=1e-5)


def test_two_devices_score_as_one_does(causal: Build) -> None:
    folder = causal()
    with Reranker(folder, backend="llm-pointwise", recipe="qwen3") as one:
        expected = scores(one.rank(QUERY, TEXTS))
    with Reranker(folder, backend="llm-pointwise", recipe="qwen3", devices=["cpu", "cpu"]) as two:
        assert scores(two.rank(QUERY, TEXTS)) == pytest.approx(expected, abs=1e-5)


def test_zero_shot_models_are_asked_in_their_chat_template(causal: Build) -> None:
    folder = causal()
    naive = Naive(folder)
    with Reranker(folder) as reranker:
        assert reranker.backend == "llm-pointwise"
        found = scores(reranker.rank(QUERY, DOCUMENTS))
    for text, score in zip(DOCUMENTS, found):
        turn = f"Passage: {text}\nQuery: {QUERY}\nDoes the passage answer the query? Answer 'Yes' or 'No'"
        last = naive.logits(f"<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n")[-1]
        assert score == pytest.approx(float(last[naive.verdict("Yes")] - last[naive.verdict("No")]), abs=1e-4)


def test_the_likelihood_of_the_query(causal: Build) -> None:
    folder = causal("llama")
    naive = Naive(folder)
    with Reranker(folder, backend="llm-pointwise", recipe="query-likelihood") as reranker:
        ranked = reranker.rank(QUERY, TEXTS)
        with pytest.raises(InvalidOptionsError, match="likelihood"):
            reranker.rank(QUERY, TEXTS, normalize=True)
    target = naive.tokenizer(QUERY, add_special_tokens=False)["input_ids"]
    for text, score in zip(TEXTS, scores(ranked)):
        turn = f"Passage: {text}\nPlease write a question based on this passage."
        prompt = f"<|im_start|>user\n{turn}<|im_end|>\n<|im_start|>assistant\n"
        likely = naive.logits(prompt, QUERY)[-len(target) - 1 : -1].log_softmax(dim=-1)
        assert score == pytest.approx(float(likely.gather(1, torch.tensor(target)[:, None]).sum()), abs=1e-3)
    assert ranked.scale == "similarity"


def test_a_recipe_of_the_users_own(causal: Build, tmp_path: Path) -> None:
    folder = causal()
    naive = Naive(folder)
    recipe = {"name": "mine", "pieces": ["Q: {query} D: {document} ->"], "true": "1", "false": "0", "temperature": 2.0}
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe), encoding="utf-8")
    for given in (recipe, str(file), file):
        with Reranker(folder, backend="llm-pointwise", recipe=given) as reranker:
            last = naive.logits(f"Q: {QUERY} D: {DOCUMENTS[0]} ->")[-1]
            logit = float(last[naive.verdict("1")] - last[naive.verdict("0")])
            assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(logit, abs=1e-4)
            half = torch.tensor(logit / 2).sigmoid().item()
            assert reranker.score(QUERY, DOCUMENTS[0], normalize=True) == pytest.approx(half, abs=1e-5)


def test_a_template_and_tokens_of_the_users_own(causal: Build) -> None:
    folder = causal()
    naive = Naive(folder)
    options = {"inputs_template": "{query} {text}:", "token_true": " true", "token_false": " false"}
    with Reranker(folder, backend="llm-pointwise", recipe="qwen3", **options) as reranker:
        last = naive.logits(f"{QUERY} {DOCUMENTS[0]}:")[-1]
        expected = float(last[naive.verdict(" true")] - last[naive.verdict(" false")])
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-4)


def test_an_instruction_per_call(causal: Build) -> None:
    with Reranker(causal(), backend="llm-pointwise", recipe="qwen3") as reranker:
        usual = reranker.score(QUERY, DOCUMENTS[0])
        assert reranker.score(QUERY, DOCUMENTS[0], instruction="Find recipes.") != pytest.approx(usual, abs=1e-3)
        assert reranker.score(QUERY, DOCUMENTS[0], instruction=INSTRUCT) == pytest.approx(usual, abs=1e-5)
    with (
        Reranker(causal(), backend="llm-pointwise") as reranker,
        pytest.raises(InvalidOptionsError, match="recipe 'yes-no' has no place for an instruction"),
    ):
        reranker.score(QUERY, DOCUMENTS[0], instruction="Find recipes.")


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("qwen", "there is no recipe 'qwen': did you mean 'qwen3'"),
        ("missing.json", "missing.json cannot be used .*No such file"),
        ({"name": "x", "pieces": "{query}", "true": "1"}, "must contain {query} and {document} once each"),
        ({"name": "x", "pieces": "{query} {document}"}, "true must be the text or id"),
        ({"name": "x", "pieces": "{query} {document}", "true": "1", "falsch": "0"}, "falsch"),
        ({}, "name"),
    ],
)
def test_a_recipe_that_cannot_be_used(causal: Build, recipe: Any, message: str) -> None:
    with pytest.raises(InvalidOptionsError, match=message):
        Reranker(causal(), backend="llm-pointwise", recipe=recipe)


def test_a_tokenizer_without_the_verdict(causal: Build) -> None:
    recipe = {"name": "x", "pieces": "{query} {document}", "true": "absolutely certain"}
    with pytest.raises(ModelLoadError, match="no one token for the verdict 'absolutely certain'"):
        Reranker(causal(), backend="llm-pointwise", recipe=recipe)


def test_a_model_without_its_head(causal: Build, tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "headless", "qwen2")
    network = transformers.AutoModel.from_pretrained(folder)
    network.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2ForCausalLM"]}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match=r"no weights for 1 tensors .*lm_head.weight"):
        Reranker(folder, backend="llm-pointwise")


def test_an_overflow_is_named(causal: Build, tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "overflowing", "llama")
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        network.model.layers[0].mlp.down_proj.weight *= 1e30
    network.save_pretrained(folder)
    with (
        Reranker(folder, backend="llm-pointwise", dtype="fp16") as reranker,
        pytest.raises(ScoringError, match=r"a value that is no number, .*dtype='bf16'"),
    ):
        reranker.rank(QUERY, DOCUMENTS)


class TestContract(BackendContract):
    @pytest.fixture
    def reranker(self, causal: Build) -> Any:
        naive = Naive(causal())
        self.better = best_and_worst(QUERY, DOCUMENTS, [naive.qwen3(QUERY, text) for text in DOCUMENTS])
        with Reranker(causal(), backend="llm-pointwise", recipe="qwen3") as reranker:
            yield reranker
