"""The cross-encoder beside its peers: the same weights, texts, threads and process, run in turn.

    python benchmarks/crossencoder.py ../shared/data [--device cuda] [--rounds 5] [--write benchmarks/results/crossencoder.md]

The model has the shape of MiniLM-L6 with random weights; the texts are real, 100 documents a query, cut so that pairs
have 10 to 380 tokens, about 105 in the mean. Every system gives raw scores in fp32, and all must agree. Peers that are not
installed are left out with a line: ``pip install sentence-transformers rerankers FlagEmbedding``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

DOCUMENTS = 100
SHORTEST, LONGEST = 10, 380  # tokens a pair
MEAN = 105  # about
Workload = list[tuple[str, list[str]]]
System = Callable[[str, list[str]], list[float]]


def build_checkpoint(data: Path, folder: Path) -> None:
    """A MiniLM-L6-shaped cross-encoder with random weights and BERT's own tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=1
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(data / "tokenizers/bert-base-uncased/tokenizer.json"),
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        unk_token="[UNK]",
        sep_token="[SEP]",
        cls_token="[CLS]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def build_workload(data: Path, folder: Path, queries: int) -> tuple[Workload, list[int]]:
    """Real queries with documents cut to lengths drawn once; and the tokens of every pair."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    rng = random.Random(0)
    texts = [
        json.loads(line)["text"]
        for name in ("msmarco-dl19", "scifact")
        for line in (data / "collections" / name / "corpus.jsonl").open(encoding="utf-8")
    ]
    chosen = rng.sample(texts, 2000)
    pool = list(zip(chosen, tokenizer.encode_batch(chosen, add_special_tokens=False)))
    lines = (data / "collections/msmarco-dl19/queries.jsonl").read_text(encoding="utf-8").splitlines()[:queries]
    workload, tokens = [], []
    for query in (json.loads(line)["text"] for line in lines):
        fixed = len(tokenizer.encode(query, add_special_tokens=False)) + 3
        documents: list[str] = []
        for _ in range(DOCUMENTS):
            target = min(LONGEST, max(SHORTEST, fixed + 1, round(rng.lognormvariate(np.log(MEAN) - 0.15, 0.75))))
            text, encoding = rng.choice([known for known in pool if len(known[1]) >= target - fixed])
            documents.append(text[: encoding.offsets[target - fixed - 1][1]])
        workload.append((query, documents))
        tokens += [len(encoding) for encoding in tokenizer.encode_batch([(query, text) for text in documents])]
    return workload, tokens


def ours(folder: str, device: str, budget: int | None = None) -> System:
    from rerank import Reranker

    reranker = Reranker(folder, device=device, dtype="fp32", max_length=512)

    def run(query: str, documents: list[str]) -> list[float]:
        ranked = reranker.rank(query, documents, max_batch_tokens=budget)
        scores = {result.index: result.score for result in ranked}
        return [scores[index] for index in range(len(documents))]

    return run


def sentence_transformers(folder: str, device: str) -> System:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, device=device, max_length=512)

    def run(query: str, documents: list[str]) -> list[float]:
        pairs = [(query, text) for text in documents]
        return model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()

    return run


def rerankers(folder: str, device: str) -> System:
    from rerankers import Reranker

    model = Reranker(folder, model_type="cross-encoder", device=device, dtype="fp32", verbose=0)

    def run(query: str, documents: list[str]) -> list[float]:
        scores = {result.doc_id: result.score for result in model.rank(query, documents).results}
        return [scores[index] for index in range(len(documents))]

    return run


def flag_embedding(folder: str, device: str) -> System:
    from FlagEmbedding import FlagReranker

    model = FlagReranker(folder, use_fp16=False, devices=device, max_length=512)

    def run(query: str, documents: list[str]) -> list[float]:
        return model.compute_score([(query, text) for text in documents])

    return run


SYSTEMS = {
    "rerank-crossencoder": ours,
    "sentence-transformers": sentence_transformers,
    "rerankers": rerankers,
    "FlagEmbedding": flag_embedding,
}
OURS = next(iter(SYSTEMS))


def measure(system: System, workload: Workload, device: str) -> tuple[float, np.ndarray]:
    """Seconds for the whole workload, and its scores."""
    started = time.perf_counter()
    scores = [system(query, documents) for query, documents in workload]
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started, np.concatenate(scores)


def measure_memory(name: str, arguments: argparse.Namespace, folder: str) -> float:
    """Peak memory in MiB of a process that loads one system and runs one query; on CUDA the device's."""
    command = [sys.executable, __file__, str(arguments.data), "--device", arguments.device, "--threads"]
    command += [str(arguments.threads), "--only", name, "--checkpoint", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def report_memory(arguments: argparse.Namespace) -> None:
    workload, _ = build_workload(arguments.data, Path(arguments.checkpoint), 1)
    measure(SYSTEMS[arguments.only](arguments.checkpoint, arguments.device), workload, arguments.device)
    if arguments.device.startswith("cuda"):
        print(torch.cuda.max_memory_allocated() / 2**20)
    else:
        status = Path("/proc/self/status").read_text(encoding="ascii")  # rusage would inherit its parent's peak
        print(int(status.partition("VmHWM:")[2].split()[0]) / 2**10)


def start_all(folder: str, device: str) -> dict[str, System]:
    started = {}
    for name, start in SYSTEMS.items():
        try:
            started[name] = start(folder, device)
        except ImportError as error:
            print(f"left out: {name} ({error})")
    return started


def compare(arguments: argparse.Namespace, folder: str) -> str:
    """The table of all systems, as Markdown."""
    workload, tokens = build_workload(arguments.data, Path(folder), arguments.queries)
    systems = start_all(folder, arguments.device)
    for budget in arguments.budgets:
        systems[f"{OURS}, {budget} tokens a batch"] = ours(folder, arguments.device, budget)
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    reference = None
    for round_ in range(arguments.rounds + 1):
        for name, system in systems.items():
            taken, scores = measure(system, workload, arguments.device)
            reference = scores if reference is None else reference
            assert np.abs(scores - reference).max() < 1e-4, (
                f"{name} scores otherwise: {np.abs(scores - reference).max()}"
            )
            if round_:  # the first warms up
                seconds[name].append(taken / len(workload))
        print(f"round {round_}: " + ", ".join(f"{name} {taken[-1]:.3f} s" for name, taken in seconds.items() if taken))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    memory = {name: measure_memory(name, arguments, folder) for name in systems if name in SYSTEMS}
    setting = (
        f"{DOCUMENTS} documents a query, {len(workload)} queries; pairs of {min(tokens)} to {max(tokens)} tokens, "
        f"{np.mean(tokens):.0f} in the mean; MiniLM-L6 shape, fp32, {arguments.device}, {arguments.threads} threads; "
        f"medians of {arguments.rounds} rounds, the systems run in turn."
    )
    lines = [
        setting,
        f"torch {torch.__version__}, transformers {transformers.__version__}, {os.uname().machine}.",
        "",
        "| system | version | seconds a query | spread | ours is faster by | peak memory (MiB) |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, median in medians.items():
        version = importlib.metadata.version(name) if name in SYSTEMS else ""
        lines.append(
            f"| {name} | {version} | {median:.4f} | {min(seconds[name]):.4f}–{max(seconds[name]):.4f} "
            f"| {median / medians[OURS]:.2f}× | {f'{memory[name]:.0f}' if name in memory else ''} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with collections/ and tokenizers/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budgets", type=int, nargs="*", default=[], help="also ours with these max_batch_tokens")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    parser.add_argument("--only", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        report_memory(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        build_checkpoint(arguments.data, Path(folder))
        table = compare(arguments, folder)
    print(table)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(f"# The cross-encoder beside its peers\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
