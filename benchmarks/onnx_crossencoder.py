"""The ONNX cross-encoder beside FlashRank: the same graph and texts.

    python benchmarks/onnx_crossencoder.py ../shared/data [--rounds 5] [--before PATH] [--budgets 1024 2048]
        [--write benchmarks/results/onnx_crossencoder.md]

The graph is exported from the checkpoint that ``crossencoder.py`` measures: the shape of MiniLM-L6, random weights, fp32.
The export needs ``pip install onnx``; FlashRank is left out with a line where it is not installed.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path

from turns import Rank, choose_systems, count_queries, parse_arguments, ranker, report
from workload import build_checkpoint, build_workload

FLASHRANK_NAME = "ms-marco-TinyBERT-L-2-v2"
FLASHRANK_GRAPH = "flashrank-TinyBERT-L-2-v2.onnx"
"""FlashRank runs only models that it knows by name, from a folder in its cache: the graph poses as one of them."""


def build_graph(data: Path, folder: Path) -> None:
    """Export the cross-encoder of `build_checkpoint` to ONNX, with the files that FlashRank reads."""
    import torch

    with tempfile.TemporaryDirectory() as checkpoint:
        model = build_checkpoint(data, Path(checkpoint))
        folder.mkdir()
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (Path(checkpoint) / name).replace(folder / name)
    specials = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials), encoding="utf-8")

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(input_ids, attention_mask, token_type_ids).logits

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.arange(6, 20).reshape(2, 7)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])  # a mask of ones would be traced as no mask
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about shapes
        torch.onnx.export(
            Logits().eval(),
            (ids, mask, torch.zeros_like(ids)),
            str(folder / FLASHRANK_GRAPH),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={**{name: {0: "rows", 1: "tokens"} for name in names}, "logits": {0: "rows"}},
            opset_version=17,
            dynamo=False,
        )


def ours(folder: Path, budget: int | None = None) -> Rank:
    from rerank import Reranker

    return ranker(Reranker(str(folder), backend="onnx", max_length=512, max_batch_tokens=budget))


def flashrank(folder: Path) -> Rank:
    from flashrank import Ranker, RerankRequest

    model = Ranker(folder.name, cache_dir=str(folder.parent), max_length=512, log_level="WARNING")

    def rank(query: str, documents: list[str]) -> list[float]:
        passages = [{"id": n, "text": text} for n, text in enumerate(documents)]
        scores = {passage["id"]: float(passage["score"]) for passage in model.rerank(RerankRequest(query, passages))}
        return [math.log(scores[n] / (1 - scores[n])) for n in range(len(documents))]  # the logit of its sigmoid

    return rank


SYSTEMS = {"rerank-onnx": ours, "FlashRank": flashrank}


def main() -> None:
    arguments = parse_arguments(__doc__, list(SYSTEMS))
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    workload = build_workload(arguments.data, count_queries(arguments), arguments.documents)
    setting = f"{workload}. MiniLM-L6 shape, fp32; onnxruntime {version('onnxruntime')}"
    with tempfile.TemporaryDirectory() as cache:
        folder = Path(cache) / FLASHRANK_NAME
        build_graph(arguments.data, folder)
        systems = choose_systems({name: partial(start, folder) for name, start in SYSTEMS.items()}, arguments)
        report("The ONNX cross-encoder beside FlashRank", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
