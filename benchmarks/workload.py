"""What the benchmarks rank with and rank: a small cross-encoder with random weights, and real texts of drawn lengths.

A module, not a script.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turns import Query

SHORTEST, LONGEST = 10, 380  # tokens per pair
SHORTEST_DOCUMENT, LONGEST_DOCUMENT = 20, 300  # tokens, where documents are drawn
MEAN = 105  # about
TOKENIZER = "tokenizers/bert-base-uncased/tokenizer.json"


@dataclass(frozen=True)
class Workload:
    """Queries with their documents.

    Args:
        queries: Each with as many documents.
        lengths: Tokens of every pair with its specials, or of every document.
        counted: What ``lengths`` counts, for people to read.
    """

    queries: list[Query]
    lengths: list[int]
    counted: str = "pairs"

    def __str__(self) -> str:
        mean = sum(self.lengths) / len(self.lengths)
        return (
            f"{len(self.queries)} {'query' if len(self.queries) == 1 else 'queries'} per turn, {len(self.queries[0][1])} documents per query; {self.counted} of "
            f"{min(self.lengths)} to {max(self.lengths)} tokens, {mean:.0f} in the mean"
        )


def build_workload(data: Path, queries: int, documents: int) -> Workload:
    """Real queries, with documents cut so that pairs have lengths that are drawn once and for all.

    Args:
        data: The folder with ``collections/`` and ``tokenizers/``.
        queries: How many.
        documents: How many per query.
    """
    texts = _Texts(data, TOKENIZER)
    workload = Workload([], [])
    for query in read_queries(data, queries):
        fixed = len(texts.tokenizer.encode(query, add_special_tokens=False)) + 3
        cut = [texts.draw(max(SHORTEST, fixed + 1), LONGEST, fixed) for _ in range(documents)]
        workload.queries.append((query, cut))
        workload.lengths.extend(map(len, texts.tokenizer.encode_batch([(query, text) for text in cut])))
    return workload


def build_documents(data: Path, queries: int, documents: int, tokenizer: str) -> Workload:
    """Real queries, with documents cut to lengths that are drawn once and for all, from the same distribution.

    Args:
        data: The folder with ``collections/`` and ``tokenizers/``.
        queries: How many.
        documents: How many per query.
        tokenizer: The file under ``data`` of the tokenizer that counts.
    """
    texts = _Texts(data, tokenizer)
    workload = Workload([], [], "documents")
    for query in read_queries(data, queries):
        cut = [texts.draw(SHORTEST_DOCUMENT, LONGEST_DOCUMENT).strip() for _ in range(documents)]
        workload.queries.append((query, cut))
        workload.lengths.extend(map(len, texts.tokenizer.encode_batch(cut, add_special_tokens=False)))
    return workload


def build_passages(data: Path, queries: int, documents: int) -> Workload:
    """Real queries, each with passages of MS MARCO as they are, drawn once and for all.

    Args:
        data: The folder with ``collections/`` and ``tokenizers/``.
        queries: How many.
        documents: How many per query.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(data / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    lines = (data / "collections/msmarco-dl19/corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rng = random.Random(0)
    workload = Workload([], [], "passages")
    for query in read_queries(data, queries):
        passages = [json.loads(line)["text"] for line in rng.sample(lines, documents)]
        workload.queries.append((query, passages))
        workload.lengths.extend(map(len, tokenizer.encode_batch(passages)))
    return workload


def read_queries(data: Path, count: int) -> list[str]:
    """The first queries of a collection."""
    lines = (data / "collections/msmarco-dl19/queries.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line)["text"] for line in lines]


class _Texts:
    """Passages of two collections, cut to lengths that are drawn.

    Args:
        data: The folder with ``collections/`` and ``tokenizers/``.
        tokenizer: The file under ``data`` of the tokenizer that counts.
    """

    def __init__(self, data: Path, tokenizer: str) -> None:
        from tokenizers import Tokenizer  # not above: a system may bring a version of its own

        self.tokenizer = Tokenizer.from_file(str(data / tokenizer))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._rng = random.Random(0)
        passages = [
            json.loads(line)["text"]
            for name in ("msmarco-dl19", "scifact")
            for line in (data / "collections" / name / "corpus.jsonl").open(encoding="utf-8")
        ]
        chosen = self._rng.sample(passages, 2000)
        self._pool = list(zip(chosen, self.tokenizer.encode_batch(chosen, add_special_tokens=False)))

    def draw(self, shortest: int, longest: int, fixed: int = 0) -> str:
        """A passage, cut so that it has a drawn number of tokens together with ``fixed`` others."""
        target = min(longest, max(shortest, round(self._rng.lognormvariate(math.log(MEAN) - 0.15, 0.75))))
        text, encoding = self._rng.choice([known for known in self._pool if len(known[1]) >= target - fixed])
        return text[: encoding.offsets[target - fixed - 1][1]]


def build_checkpoint(data: Path, folder: Path) -> Any:
    """Save a cross-encoder of MiniLM-L6's shape, with random weights and BERT's own tokenizer.

    Args:
        data: The folder with ``tokenizers/``.
        folder: Where to save it.

    Returns:
        The model itself.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=1,
        initializer_range=0.05,  # at the usual 0.02 all pairs score almost alike
    )
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(data / TOKENIZER),
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        unk_token="[UNK]",
        sep_token="[SEP]",
        cls_token="[CLS]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    return model
