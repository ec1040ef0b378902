"""Late interaction beside its peers: the same weights and texts, and with document vectors that were kept.

    python benchmarks/colbert.py ../shared/data --documents 1000 --one-caller [--device cuda] [--rounds 5]
        [--packages PyLate=PATH rerankers=PATH] [--before PATH] [--budgets 4096 8192]
        [--write benchmarks/results/colbert.md]
    python benchmarks/colbert.py ../shared/data --documents 100 … [--write benchmarks/results/colbert_callers.md]

The checkpoint is in Stanford's layout, which every system reads: the shape of MiniLM-L6 with a projection to 128
dimensions, random weights, and BERT's own tokenizer. The passages are real. Every system encodes the query and all
passages and compares them, in fp32; ours also with vectors that were kept in memory and on disk, so that only the query
is encoded. All must agree, except for what is rounded: kept vectors, by up to `ROUNDED`.

The ColBERTRanker of rerankers agrees with none: it fills queries by another rule, counts punctuation, reads passages as
far as the model does, and divides by the number of query tokens. The work is almost the same.

Peers that are not installed are left out with a line: ``pip install sentence-transformers PyLate rerankers``. PyLate 1.6
needs sentence-transformers 5.3, and rerankers 0.10 transformers 4. ``--packages NAME=PATH`` takes a system's packages
from a folder, for its own process only: one that ``pip install --target PATH`` filled, or the ``site-packages`` of
another environment of this Python.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from turns import Rank, System, choose_systems, count_queries, parse_arguments, ranker, report
from workload import TOKENIZER, build_passages

OURS = "rerank-colbert"
QUERY_TOKENS, DOCUMENT_TOKENS = 32, 220
DIMENSIONS = 128
ROUNDED = {"fp16": 0.01, "int8": 0.1}
"""How far sums over 32 vectors may be from those of fp32."""


def build_checkpoint(data: Path, folder: Path) -> None:
    """Save a late-interaction model with random weights in Stanford's layout.

    Args:
        data: The folder with ``tokenizers/``.
        folder: Where to save it.
    """
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        initializer_range=0.05,  # at the usual 0.02 all tokens are almost alike
        architectures=["HF_ColBERT"],
    )
    model = transformers.BertModel(config)
    weights = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    weights["linear.weight"] = torch.randn(DIMENSIONS, 384) / math.sqrt(384)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config.save_pretrained(folder)
    metadata = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": QUERY_TOKENS,
        "doc_maxlen": DOCUMENT_TOKENS,
        "dim": DIMENSIONS,
        "mask_punctuation": True,
        "attend_to_mask_tokens": False,
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # a name that transformers 4 and 5 know
        "model_max_length": 512,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "cls", "pad", "mask")},
    }
    (folder / "artifact.metadata").write_text(json.dumps(metadata), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "tokenizer.json").write_bytes((data / TOKENIZER).read_bytes())


def ours(folder: str, device: str, budget: int | None = None) -> Rank:
    from rerank import Reranker

    return ranker(Reranker(folder, device=device, dtype="fp32", max_batch_tokens=budget))


def kept(folder: str, device: str, vectors: str, dtype: str, texts: Sequence[str]) -> Rank:
    """Ours, with the vectors of all passages kept before the first turn."""
    from rerank import Reranker

    reranker = Reranker(folder, device=device, dtype="fp32", vectors=vectors, vectors_dtype=dtype)
    reranker.scorer.encode_documents(texts, reranker.options)
    return ranker(reranker)


def pylate(folder: str, device: str) -> Rank:
    from pylate import models, rank

    model = models.ColBERT(folder, device=device)

    def rank_all(query: str, documents: list[str]) -> list[float]:
        queries = model.encode([query], is_query=True)
        vectors = model.encode(documents, is_query=False)
        ids = list(range(len(documents)))
        (found,) = rank.rerank(documents_ids=[ids], queries_embeddings=queries, documents_embeddings=[vectors])
        scores = {result["id"]: result["score"] for result in found}
        return [scores[number] for number in ids]

    return rank_all


def sentence_transformers(folder: str, device: str) -> Rank:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(folder, device=device)

    def rank(query: str, documents: list[str]) -> list[float]:
        vectors = model.encode_document(documents)
        return model.similarity(model.encode_query([query]), vectors)[0].tolist()

    return rank


def rerankers(folder: str, device: str) -> Rank:
    import torch
    from rerankers.models.colbert_ranker import ColBERTRanker

    model = ColBERTRanker(folder, device=device, dtype=torch.float32, verbose=0)

    def rank(query: str, documents: list[str]) -> list[float]:
        scores = {result.doc_id: result.score for result in model.rank(query, documents).results}
        return [scores[number] for number in range(len(documents))]

    return rank


SYSTEMS = {OURS: ours, "PyLate": pylate, "sentence-transformers": sentence_transformers, "rerankers": rerankers}


def read_package(given: str) -> tuple[str, Path]:
    name, _, folder = given.partition("=")
    if name not in SYSTEMS or not Path(folder).is_dir():
        raise ValueError(given)
    return name, Path(folder).resolve()


def main() -> None:
    more = {
        "device": {"default": "cpu"},
        "packages": {"nargs": "+", "type": read_package, "default": [], "metavar": "NAME=PATH", "help": "see above"},
    }
    arguments = parse_arguments(__doc__, list(SYSTEMS), **more)
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    workload = build_passages(arguments.data, count_queries(arguments), arguments.documents)
    setting = (
        f"{workload}, of which {DOCUMENT_TOKENS} are read. MiniLM-L6 shape, {DIMENSIONS} dimensions, fp32, "
        f"{arguments.device}; torch {version('torch')}, transformers {version('transformers')}. "
        "What was kept are the vectors of all passages; rerankers has scores of its own kind"
    )
    packages = dict(arguments.packages)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        build_checkpoint(arguments.data, folder)
        starts = {name: partial(start, str(folder), arguments.device) for name, start in SYSTEMS.items()}
        systems = [
            replace(
                system,
                packages=packages.get(system.name),
                tolerance=math.inf if system.name == "rerankers" else system.tolerance,
            )
            for system in choose_systems(starts, arguments)
        ]
        if OURS in arguments.systems:
            texts = list(chain.from_iterable(documents for _, documents in workload.queries))
            for place in ("memory", str(Path(temporary) / "vectors")):
                for dtype, tolerance in ROUNDED.items():
                    start = partial(kept, str(folder), arguments.device, place, dtype, texts)
                    where = "in memory" if place == "memory" else "on disk"
                    systems.append(System(f"{OURS}, kept {where}, {dtype}", start, OURS, tolerance=tolerance))
        report("Late interaction beside its peers", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
