"""A causal language model as reranker beside its peers: the same weights, prompts and texts.

    python benchmarks/llm.py ../shared/data [--recipe bge-gemma] [--flag-packages PATH] [--rounds 5] [--one-caller]
        [--before PATH] [--budgets 512 1024] [--write benchmarks/results/llm_bge-gemma.md]

The model has Qwen3's shape (hidden size 512, 8 layers, a vocabulary of 151,936) with random weights; the texts are real,
100 documents per query of 20 to 300 tokens. Every system gives raw scores in fp32, and all must agree. With the recipe
``bge-gemma`` the prompt is that of FlagEmbedding; with ``qwen3`` about a third of it is the same for all documents, and
FlagEmbedding, which knows no other prompt than its own, is left out.

Peers that are not installed are left out with a line: ``pip install sentence-transformers FlagEmbedding``. FlagEmbedding
1.4.2 needs transformers 4: ``pip install --target PATH --no-deps`` puts both and what they import into a folder, and
``--flag-packages PATH`` takes them from there, for its own process only.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

from turns import Rank, System, choose_systems, count_queries, parse_arguments, ranker, report
from workload import build_documents

TOKENIZER = "tokenizers/roberta-base/tokenizer.json"
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BEGIN = "<s>"
MESSAGE = "{{ (messages | selectattr('role', 'eq', '%s') | first)['content'] }}"
FLAG_BATCH = 16  # rows; its default is 128, whose logits alone take some 20 GiB
SYSTEMS = ["rerank-llm", "FlagEmbedding", "sentence-transformers", "transformers"]


def build_model(data: Path, folder: Path, prompt: str, verdicts: tuple[str, ...]) -> None:
    """Save a causal model with random weights, and what sentence-transformers needs to score with it.

    Args:
        data: The folder with ``tokenizers/``.
        folder: Where to save it.
        prompt: The whole prompt, with places for query and document.
        verdicts: The tokens that the score reads: relevant first.
    """
    import torch
    import transformers
    from tokenizers import AddedToken, Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(data / TOKENIZER))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in CHATML])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # a name that transformers 4 and 5 know
        "bos_token": BEGIN,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 8192,
        "chat_template": prompt.replace("{query}", MESSAGE % "query").replace("{document}", MESSAGE % "document")
        + "{{ '' }}",  # or Jinja would drop the last line break
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")

    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=151_936,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
        tie_word_embeddings=True,
        initializer_range=0.05,  # at the usual 0.02 all pairs score almost alike
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        pad_token_id=tokenizer.token_to_id("<|endoftext|>"),
    )
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    save_logit_score(folder, [tokenizer.token_to_id(verdict) for verdict in verdicts])


def save_logit_score(folder: Path, verdicts: list[int]) -> None:
    """Add the modules of sentence-transformers, as its version 6 saves them."""
    package = "sentence_transformers"
    output = {"method": "forward", "method_output_name": "logits"}
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{package}.base.modules.transformer.Transformer"},
            {
                "idx": 1,
                "name": "1",
                "path": "1_LogitScore",
                "type": f"{package}.cross_encoder.modules.logit_score.LogitScore",
            },
        ],
        "1_LogitScore/config.json": dict(zip(("true_token_id", "false_token_id"), verdicts)),
        "sentence_bert_config.json": {
            "transformer_task": "text-generation",
            "modality_config": {"text": output, "message": {**output, "format": "flat"}},
            "module_output_name": "causal_logits",
        },
        "config_sentence_transformers.json": {
            "model_type": "CrossEncoder",
            "activation_fn": "torch.nn.modules.linear.Identity",
        },
    }
    (folder / "1_LogitScore").mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def ours(folder: str, recipe: str, budget: int | None = None, reuse: bool | None = None) -> Rank:
    from rerank import Reranker

    return ranker(
        Reranker(
            folder,
            backend="llm-pointwise",
            recipe=recipe,
            device="cpu",
            dtype="fp32",
            max_batch_tokens=budget,
            prefix_reuse=reuse,
        )
    )


def flag_embedding(folder: str) -> Rank:
    from FlagEmbedding import FlagLLMReranker

    model = FlagLLMReranker(folder, use_fp16=False, devices="cpu", max_length=1024, batch_size=FLAG_BATCH)
    turn = threading.Lock()  # four calls at once need more than 24 GiB

    def rank(query: str, documents: list[str]) -> list[float]:
        with turn:
            return model.compute_score([(query, text) for text in documents])

    return rank


def sentence_transformers(folder: str) -> Rank:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(folder, device="cpu")

    def rank(query: str, documents: list[str]) -> list[float]:
        return model.predict([(query, text) for text in documents], show_progress_bar=False).tolist()

    return rank


def naive_loop(folder: str, prompt: str, verdicts: tuple[str, ...]) -> Rank:
    """One prompt after another, and the logits of the whole vocabulary at every position."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    relevant, *other = tokenizer.convert_tokens_to_ids(list(verdicts))

    @torch.inference_mode()
    def score(query: str, document: str) -> float:
        text = prompt.replace("{query}", query).replace("{document}", document)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]  # (1, tokens)
        logits = network(input_ids=ids, use_cache=False).logits[0, -1]  # (vocabulary,)
        return float(logits[relevant] - logits[other].sum())

    return lambda query, documents: [score(query, document) for document in documents]


def main() -> None:
    more = {
        "recipe": {"choices": ["bge-gemma", "qwen3"], "default": "bge-gemma", "help": "how the model is prompted"},
        "flag-packages": {"type": Path, "metavar": "PATH", "help": "a folder with FlagEmbedding and transformers 4"},
    }
    arguments = parse_arguments(__doc__, SYSTEMS, **more)
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    from rerank_llm.recipes import find

    recipe = find(arguments.recipe)
    prompt = "".join(recipe.pieces).replace("{instruction}", recipe.instruction)
    prompt = BEGIN + prompt if recipe.begins else prompt
    packages = arguments.flag_packages and arguments.flag_packages.resolve()
    workload = build_documents(arguments.data, count_queries(arguments), arguments.documents, TOKENIZER)
    flag = f"FlagEmbedding with batches of {FLAG_BATCH}, one caller at a time; " if recipe.name == "bge-gemma" else ""
    setting = (
        f"{workload}. Qwen3's shape, 512 wide, 8 layers, 151,936 tokens, fp32, cpu; recipe {recipe.name}; {flag}"
        f"torch {metadata.version('torch')}, transformers {metadata.version('transformers')}"
    )
    with tempfile.TemporaryDirectory() as folder:
        build_model(arguments.data, Path(folder), prompt, recipe.verdicts)
        starts = {
            "rerank-llm": partial(ours, folder, recipe.name),
            "FlagEmbedding": partial(flag_embedding, folder),
            "sentence-transformers": partial(sentence_transformers, folder),
            "transformers": partial(naive_loop, folder, prompt, recipe.verdicts),
        }
        if recipe.name != "bge-gemma":
            del starts["FlagEmbedding"]
        systems = choose_systems(starts, arguments)
        if packages:
            systems = [replace(s, packages=packages) if s.name == "FlagEmbedding" else s for s in systems]
        if "rerank-llm" in arguments.systems:
            systems[1:1] = [
                System(f"rerank-llm, prefix_reuse={reuse}", partial(starts["rerank-llm"], reuse=reuse), "rerank-llm")
                for reuse in (True, False)
            ]
        report("A causal language model beside its peers", setting, systems, workload.queries, arguments)


if __name__ == "__main__":
    main()
