"""The embedded model beside a bare loop over its onnxruntime session, and with document vectors that were kept.

    python benchmarks/embedded.py ../shared/data [--rounds 5] [--before PATH] [--budgets 512 1024]
        [--write benchmarks/results/embedded.md]

The bare loop is what a competent user writes: the tokenizer, a session with default options and thus its own thread
pool, batches of 1,024 tokens, the longest documents first, and the similarity in numpy. Kept vectors are rounded, so that
scores with them differ by up to `ROUNDED`.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain, product
from pathlib import Path

from turns import Rank, System, choose_systems, count_queries, parse_arguments, ranker, report
from workload import build_workload

BATCH_TOKENS = 1024
ROUNDED = {"fp16": 1e-3, "int8": 1e-2}


def ours(budget: int | None = None) -> Rank:
    from rerank import Reranker

    return ranker(Reranker(max_batch_tokens=budget))


def kept(vectors: str, dtype: str, texts: Sequence[str]) -> Rank:
    """Ours, with the vectors of all documents kept before the first turn."""
    from rerank import Reranker

    reranker = Reranker(vectors=vectors, vectors_dtype=dtype)
    reranker.scorer.encode_documents(texts, reranker.options)
    return ranker(reranker)


def bare_loop() -> Rank:
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    (package,) = importlib.util.find_spec("rerank_nano").submodule_search_locations  # found, and not imported
    folder = Path(package) / "model"
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))["late_interaction"]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    query_tokenizer, document_tokenizer = (Tokenizer.from_file(str(folder / "tokenizer.json")) for _ in range(2))
    query_tokenizer.enable_truncation(settings["query_tokens"])
    document_tokenizer.enable_truncation(settings["document_tokens"])

    def encode(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Token vectors (rows, tokens, dimensions) and the mask of real tokens (rows, tokens)."""
        width = max(map(len, rows))
        ids = np.array([row + [0] * (width - len(row)) for row in rows])
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        (vectors,) = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
        return vectors, mask

    def unit(vectors: np.ndarray) -> np.ndarray:
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def rank(query: str, documents: list[str]) -> list[float]:
        (query_vectors,), _ = encode([query_tokenizer.encode(query).ids])
        query_words, query_mean = unit(query_vectors[1:-1]), unit(query_vectors.mean(axis=0))
        rows = [encoding.ids for encoding in document_tokenizer.encode_batch(documents)]
        left = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        scores = np.empty(len(rows))
        while left:
            size = max(1, BATCH_TOKENS // len(rows[left[0]]))
            batch, left = left[:size], left[size:]
            vectors, mask = encode([rows[i] for i in batch])
            cosines = unit(vectors) @ query_words.T  # (rows, tokens, query_words)
            words = mask.astype(bool)  # (rows, tokens), without [CLS] and [SEP]
            words[:, 0] = words[range(len(batch)), mask.sum(axis=1) - 1] = False
            best = np.where(words[..., None], cosines, -np.inf).max(axis=1)  # (rows, query_words)
            means = (vectors * mask[..., None]).sum(axis=1)  # (rows, dimensions), of any length
            scores[batch] = best.mean(axis=1) + settings["pooled_weight"] * (unit(means) @ query_mean)
        return scores.tolist()

    return rank


SYSTEMS = {"rerank-nano": ours, "onnxruntime": bare_loop}


def main() -> None:
    arguments = parse_arguments(__doc__, list(SYSTEMS))
    workload = build_workload(arguments.data, count_queries(arguments), arguments.documents)
    setting = f"{workload}. The embedded model; onnxruntime {version('onnxruntime')}, numpy {version('numpy')}"
    systems = choose_systems(SYSTEMS, arguments)
    with tempfile.TemporaryDirectory() as temporary:
        texts = list(chain.from_iterable(documents for _, documents in workload.queries))
        for (where, place), (dtype, tolerance) in product(
            {"in memory": "memory", "on disk": temporary}.items(), ROUNDED.items()
        ):
            name = f"rerank-nano, kept {where}, {dtype}"
            systems.append(System(name, partial(kept, place, dtype, texts), "rerank-nano", tolerance=tolerance))
        report("The embedded model beside its session", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
