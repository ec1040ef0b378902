"""A causal language model that orders windows of passages, beside a bare loop over transformers' ``generate``.

    python benchmarks/listwise_local.py ../shared/data --documents 200 [--rounds 5] [--one-caller] [--before PATH]
        [--budgets 2048 8192] [--write benchmarks/results/listwise_local.md]

The model has Llama's shape (hidden size 384, 6 layers, some 35 million parameters) with random weights, and Phi-3's tokenizer and
chat template; the texts are real. The documents of a query make windows of 20, which are asked about independently, as when
several queries are ranked: 10 windows where there are 200. The prompt is RankZephyr's. Both systems write greedily in fp32, as
many tokens as an order of 20 passages has, and must begin alike.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from turns import Rank, choose_systems, count_queries, parse_arguments, report
from workload import build_documents

TOKENIZER = "tokenizers/phi-3/tokenizer.json"
WINDOW, ANSWER = 20, 100
COMPARED = 16  # characters: further on, equal systems may part where two tokens are almost equally probable
END, PAD = 32_000, 0


def build_model(data: Path, folder: Path) -> None:
    """Save a small Llama with random weights.

    Args:
        data: The folder with ``tokenizers/``.
        folder: Where to save it.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32_064,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=8192,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((data / TOKENIZER).with_name(file).read_bytes())


def ours(folder: str, budget: int | None = None) -> Rank:
    from rerank import ModelRef, installed
    from rerank_llm.generators.causal import CausalWriter

    kind: Any = installed().backends["llm-listwise"].options
    options = kind(device="cpu", dtype="fp32", max_batch_tokens=budget)
    writer = CausalWriter(ModelRef(folder), options)
    return in_windows(lambda prompts: [one.text for one in writer.write(prompts, options)])


def bare(folder: str) -> Rank:
    """One prompt after another, with the same greedy settings."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    template = AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")  # transformers 5 reads Phi-3's otherwise
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    settings = GenerationConfig(max_new_tokens=ANSWER, do_sample=False, eos_token_id=END, pad_token_id=PAD)

    @torch.inference_mode()
    def write(prompt: Any) -> str:
        content = prompt.joins_system.join(message.content for message in prompt.messages)
        text = template.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        given = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids])  # (1, tokens)
        written = network.generate(
            input_ids=given, attention_mask=torch.ones_like(given), generation_config=settings
        )  # (1, tokens and answer)
        return str(tokenizer.decode(written[0, given.shape[1] :].tolist()))

    return in_windows(lambda prompts: list(map(write, prompts)))


def in_windows(write: Callable[[list[Any]], list[str]]) -> Rank:
    """From what writes to what `turns` compares: a number for the beginning of what is said about a document's window."""
    from dataclasses import replace

    from rerank_listwise.recipes import find

    recipe = find("rankzephyr")

    def rank(query: str, documents: list[str]) -> list[float]:
        windows = [documents[start : start + WINDOW] for start in range(0, len(documents), WINDOW)]
        cleaned = [[recipe.clean(text)[0] for text in window] for window in windows]
        prompts = [replace(recipe.prompt(recipe.clean(query)[0], texts), max_new_tokens=ANSWER) for texts in cleaned]
        numbers = [zlib.crc32(text.strip()[:COMPARED].encode()) / 2**32 for text in write(prompts)]
        return [number for number, window in zip(numbers, windows) for _ in window]

    return rank


def main() -> None:
    arguments = parse_arguments(__doc__, ["rerank-llm", "transformers"])
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    workload = build_documents(arguments.data, count_queries(arguments), arguments.documents, TOKENIZER)
    setting = (
        f"{workload}, in windows of {WINDOW}, {ANSWER} tokens written about each. Llama's shape, 384 wide, 6 layers, fp32, cpu; "
        f"torch {version('torch')}, transformers {version('transformers')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        build_model(arguments.data, Path(folder))
        starts = {"rerank-llm": partial(ours, folder), "transformers": partial(bare, folder)}
        systems = choose_systems(starts, arguments)
        report("Writing an order on this machine", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
