"""MaxSim alone: how long it takes to compare a query's vectors with those of all documents.

    python benchmarks/maxsim.py ../shared/data --documents 1000 --queries 25 [--threads 1 2] [--rounds 5]
        [--write benchmarks/results/maxsim.md]

The vectors are random, 32 per query and as many per document as a passage of MS MARCO has tokens, 128 dimensions, fp32.
They arrive as ColBERT's do: one array per document. Every system has a row per number of threads.

The systems: ours, as the backend calls it; one einsum over documents that are padded to the longest; the same over
documents of similar length at a time; maxsim-cpu; and the reference for CPUs of late-interaction-kernels, whose kernels
need another device. What is not installed is left out with a line: ``pip install maxsim-cpu`` and
``pip install --no-deps late-interaction-kernels``.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from turns import Rank, System, count_queries, parse_arguments, report
from workload import build_passages

if TYPE_CHECKING:
    import numpy as np

QUERY_VECTORS, DIMENSIONS = 32, 128
LONGEST = 220
TOGETHER = 32  # documents of similar length

Compare = Callable[["np.ndarray", "list[np.ndarray]"], Any]
"""From a query's vectors ``(query_vectors, dimensions)`` and those of each document to one score per document."""


class Vectors:
    """Unit vectors of queries and documents, which are named by their numbers.

    Args:
        queries: How many queries.
        lengths: How many vectors each document has.
    """

    def __init__(self, queries: int, lengths: Sequence[int]) -> None:
        import numpy as np

        rng = np.random.default_rng(0)

        def draw(count: int) -> np.ndarray:
            drawn = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
            return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

        self.queries = {str(number): draw(QUERY_VECTORS) for number in range(queries)}
        self.documents = {str(number): draw(length) for number, length in enumerate(lengths)}


def start(build: Callable[[int], Compare], threads: int, queries: int, lengths: Sequence[int]) -> Rank:
    """A system that compares vectors by the names of their query and documents."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    import torch

    torch.set_num_threads(threads)
    vectors = Vectors(queries, lengths)
    compare = build(threads)

    @torch.inference_mode()
    def rank(query: str, documents: list[str]) -> list[float]:
        return compare(vectors.queries[query], [vectors.documents[name] for name in documents]).tolist()

    return rank


def ours(threads: int) -> Compare:
    import numpy as np
    import torch

    from rerank import Streams, map_batches
    from rerank_colbert.maxsim import maxsim
    from rerank_colbert.scorer import COMPARED_TOKENS

    streams = Streams(threads, partial(torch.set_num_threads, 1))

    def compare(query: np.ndarray, documents: list[np.ndarray]) -> np.ndarray:
        def compare_some(numbers: list[int]) -> list[float]:
            return maxsim(query, [documents[number] for number in numbers]).tolist()

        lengths = [len(document) for document in documents]
        every = range(len(documents))
        return np.array(map_batches(every, lengths, compare_some, max_tokens=COMPARED_TOKENS, streams=streams))

    return compare


def pad(documents: list[np.ndarray]) -> tuple[Any, Any]:
    """Documents as one tensor ``(documents, longest, dimensions)``, and which of its vectors are theirs."""
    import torch

    lengths = torch.tensor([len(document) for document in documents])  # (documents,)
    padded = torch.nn.utils.rnn.pad_sequence(list(map(torch.from_numpy, documents)), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < lengths[:, None]


def einsum(threads: int) -> Compare:
    import torch

    def compare(query: np.ndarray, documents: list[np.ndarray]) -> Any:
        padded, own = pad(documents)
        products = torch.einsum("qh,dth->dqt", torch.from_numpy(query), padded)  # (documents, query_vectors, longest)
        return products.masked_fill_(~own[:, None], -torch.inf).amax(dim=2).sum(dim=1)

    return compare


def by_length(threads: int) -> Compare:
    import numpy as np

    compare_some = einsum(threads)

    def compare(query: np.ndarray, documents: list[np.ndarray]) -> np.ndarray:
        order = sorted(range(len(documents)), key=lambda number: len(documents[number]))
        scores = np.empty(len(documents), dtype=np.float32)
        for begin in range(0, len(order), TOGETHER):
            some = order[begin : begin + TOGETHER]
            scores[some] = compare_some(query, [documents[number] for number in some])
        return scores

    return compare


def maxsim_cpu(threads: int) -> Compare:
    from maxsim_cpu import maxsim_scores_variable

    return maxsim_scores_variable


def kernels_reference(threads: int) -> Compare:
    import torch
    from late_interaction_kernels.reference import maxsim_reference

    def compare(query: np.ndarray, documents: list[np.ndarray]) -> Any:
        padded, own = pad(documents)
        return maxsim_reference(torch.from_numpy(query), padded, d_mask=own)

    return compare


SYSTEMS = {
    "rerank-colbert": ("rerank-colbert", ours),
    "einsum, padded": ("torch", einsum),
    "einsum, padded by length": ("torch", by_length),
    "maxsim-cpu": ("maxsim-cpu", maxsim_cpu),
    "late-interaction-kernels": ("late-interaction-kernels", kernels_reference),
}


def main() -> None:
    more = {"threads": {"type": int, "nargs": "+", "default": [1, 2], "help": "how many threads a system may use"}}
    arguments = parse_arguments(__doc__, list(SYSTEMS), **more)
    passages = build_passages(arguments.data, 1, arguments.documents)
    lengths = [min(length, LONGEST) for length in passages.lengths]
    count = count_queries(arguments)
    names = [str(number) for number in range(len(lengths))]
    setting = (
        f"{count} queries of {QUERY_VECTORS} vectors per turn, each with the same {len(lengths)} documents of "
        f"{min(lengths)} to {max(lengths)} vectors, {sum(lengths) / len(lengths):.0f} in the mean; {DIMENSIONS} dimensions, "
        f"fp32, cpu; torch {importlib.metadata.version('torch')}"
    )
    systems = []
    for threads in arguments.threads:
        for name in arguments.systems:
            distribution, build = SYSTEMS[name]
            label = f"{name}, {threads} thread{'' if threads == 1 else 's'}"
            systems.append(System(label, partial(start, build, threads, count, lengths), distribution))
    report("MaxSim alone", setting, systems, [(str(number), names) for number in range(count)], arguments)


if __name__ == "__main__":
    main()
