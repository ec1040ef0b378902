"""The cross-encoder beside its peers: the same weights and texts.

    python benchmarks/crossencoder.py ../shared/data [--device cuda] [--rounds 5] [--before PATH] [--budgets 512 768]
        [--write benchmarks/results/crossencoder.md]

The model has the shape of MiniLM-L6 with random weights; the texts are real, 100 documents per query, cut so that pairs
have 10 to 380 tokens, about 105 in the mean. Every system gives raw scores in fp32, and all must agree. Peers that are
not installed are left out with a line: ``pip install sentence-transformers rerankers FlagEmbedding``. The last two are
slow: ``--systems`` leaves them out.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

from turns import Rank, choose_systems, count_queries, parse_arguments, ranker, report
from workload import build_checkpoint, build_workload


def ours(folder: str, device: str, budget: int | None = None) -> Rank:
    from rerank import Reranker

    return ranker(Reranker(folder, device=device, dtype="fp32", max_length=512, max_batch_tokens=budget))


def sentence_transformers(folder: str, device: str) -> Rank:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, device=device, max_length=512)

    def rank(query: str, documents: list[str]) -> list[float]:
        pairs = [(query, text) for text in documents]
        return model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()

    return rank


def rerankers(folder: str, device: str) -> Rank:
    from rerankers import Reranker

    model = Reranker(folder, model_type="cross-encoder", device=device, dtype="fp32", verbose=0)

    def rank(query: str, documents: list[str]) -> list[float]:
        scores = {result.doc_id: result.score for result in model.rank(query, documents).results}
        return [scores[index] for index in range(len(documents))]

    return rank


def flag_embedding(folder: str, device: str) -> Rank:
    from FlagEmbedding import FlagReranker

    model = FlagReranker(folder, use_fp16=False, devices=device, max_length=512)

    def rank(query: str, documents: list[str]) -> list[float]:
        return model.compute_score([(query, text) for text in documents])

    return rank


SYSTEMS = {
    "rerank-crossencoder": ours,
    "sentence-transformers": sentence_transformers,
    "rerankers": rerankers,
    "FlagEmbedding": flag_embedding,
}


def main() -> None:
    arguments = parse_arguments(__doc__, list(SYSTEMS), device={"default": "cpu"})
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    workload = build_workload(arguments.data, count_queries(arguments), arguments.documents)
    setting = (
        f"{workload}. MiniLM-L6 shape, fp32, {arguments.device}; torch {version('torch')}, "
        f"transformers {version('transformers')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        build_checkpoint(arguments.data, Path(folder))
        starts = {name: partial(start, folder, arguments.device) for name, start in SYSTEMS.items()}
        systems = choose_systems(starts, arguments)
        report("The cross-encoder beside its peers", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
