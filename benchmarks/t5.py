"""T5 as reranker beside AnswerDotAI's T5Ranker: the same weights, prompts and texts.

    python benchmarks/t5.py ../shared/data [--rounds 5] [--one-caller] [--before PATH] [--budgets 512 1024]
        [--write benchmarks/results/t5.md]

The model has T5-base's shape with random weights and T5's own tokenizer; the texts are real, 100 documents per query of
20 to 300 tokens. Both systems prompt as monoT5 does and give log-odds in fp32, and they must agree. T5Ranker is left out
with a line where it is not installed: ``pip install rerankers``.
"""

from __future__ import annotations

import math
import os
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

from turns import Rank, choose_systems, count_queries, parse_arguments, ranker, report
from workload import build_documents

TOKENIZER = "tokenizers/t5-small/tokenizer.json"


def build_model(data: Path, folder: Path) -> None:
    """Save T5-base's shape with random weights.

    Args:
        data: The folder with ``tokenizers/``.
        folder: Where to save it.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=32_128,
        d_model=768,
        d_kv=64,
        d_ff=3072,
        num_layers=12,
        num_decoder_layers=12,
        num_heads=12,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(data / TOKENIZER),
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)


def ours(folder: str, budget: int | None = None) -> Rank:
    from rerank import Reranker

    return ranker(Reranker(folder, backend="t5", recipe="monot5", device="cpu", dtype="fp32", max_batch_tokens=budget))


def rerankers(folder: str) -> Rank:
    from rerankers import Reranker

    model = Reranker(folder, model_type="t5", device="cpu", dtype="fp32", verbose=0)

    def rank(query: str, documents: list[str]) -> list[float]:
        scores = {result.doc_id: result.score for result in model.rank(query, documents).results}
        return [math.log(scores[n] / (1 - scores[n])) for n in range(len(documents))]  # from its softmax of two

    return rank


SYSTEMS = {"rerank-llm": ours, "rerankers": rerankers}


def main() -> None:
    arguments = parse_arguments(__doc__, list(SYSTEMS))
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    workload = build_documents(arguments.data, count_queries(arguments), arguments.documents, TOKENIZER)
    setting = (
        f"{workload}. T5-base's shape, recipe monot5, fp32, cpu; torch {version('torch')}, "
        f"transformers {version('transformers')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        build_model(arguments.data, Path(folder))
        systems = choose_systems({name: partial(start, folder) for name, start in SYSTEMS.items()}, arguments)
        report("T5 beside AnswerDotAI's T5Ranker", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
