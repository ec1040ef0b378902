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

from tokenizers import Tokenizer
from turns import Query

SHORTEST, LONGEST = 10, 380  # tokens per pair
MEAN = 105  # about
TOKENIZER = "tokenizers/bert-base-uncased/tokenizer.json"


@dataclass(frozen=True)
class Workload:
    """Queries with their documents.

    Args:
        queries: Each with as many documents.
        lengths: Tokens of every pair, specials included.
    """

    queries: list[Query]
    lengths: list[int]

    def __str__(self) -> str:
        mean = sum(self.lengths) / len(self.lengths)
        return (
            f"{len(self.queries)} queries per turn, {len(self.queries[0][1])} documents per query; pairs of {min(self.lengths)} to "
            f"{max(self.lengths)} tokens, {mean:.0f} in the mean"
        )


def build_workload(data: Path, queries: int, documents: int) -> Workload:
    """Real queries, with documents cut to lengths that are drawn once and for all.

    Args:
        data: The folder with ``collections/`` and ``tokenizers/``.
        queries: How many.
        documents: How many per query.
    """
    tokenizer = Tokenizer.from_file(str(data / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rng = random.Random(0)
    passages = [
        json.loads(line)["text"]
        for name in ("msmarco-dl19", "scifact")
        for line in (data / "collections" / name / "corpus.jsonl").open(encoding="utf-8")
    ]
    chosen = rng.sample(passages, 2000)
    pool = list(zip(chosen, tokenizer.encode_batch(chosen, add_special_tokens=False)))
    lines = (data / "collections/msmarco-dl19/queries.jsonl").read_text(encoding="utf-8").splitlines()[:queries]
    workload = Workload([], [])
    for query in (json.loads(line)["text"] for line in lines):
        fixed = len(tokenizer.encode(query, add_special_tokens=False)) + 3
        texts: list[str] = []
        for _ in range(documents):
            target = min(LONGEST, max(SHORTEST, fixed + 1, round(rng.lognormvariate(math.log(MEAN) - 0.15, 0.75))))
            text, encoding = rng.choice([known for known in pool if len(known[1]) >= target - fixed])
            texts.append(text[: encoding.offsets[target - fixed - 1][1]])
        workload.queries.append((query, texts))
        workload.lengths.extend(map(len, tokenizer.encode_batch([(query, text) for text in texts])))
    return workload


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
