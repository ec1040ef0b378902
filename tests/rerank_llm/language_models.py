"""Small checkpoints of the real classes with random weights, and tokenizers trained here, all saved on disk.

A module, not tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from rerank.testing.contract import DOCUMENTS, QUERY

TEXTS = [
    *DOCUMENTS,
    QUERY,
    "A nurse bee feeds larvae with royal jelly, and a forager carries pollen on her hind legs.",
    "Shares rose when the bank cut its rate, and fell when inflation came in above the forecast.",
    "Note that the answer can only be \"yes\" or \"no\". Answer 'Yes' or 'No'. true false 0 1 2",
    "Given a query A and a passage B, determine whether the passage contains an answer to the query.",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789",
]
VERDICTS = ["yes", "no", "Yes", "No", " true", " false", "0", "1"]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_chat_tokenizer(folder: Path, **config: Any) -> None:
    """A byte-level tokenizer of Qwen's kind, with ChatML's special tokens and one token per verdict."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = TEXTS * 3 + VERDICTS * 20
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in ("<think>", "</think>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 100_000,
        "chat_template": CHATML,
        **config,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def save_spm_tokenizer(folder: Path, special: list[str], pad: str, eos: str, bos: str | None = None) -> None:
    """A Unigram tokenizer of T5's or Llama's kind, which writes spaces as ``▁``."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    words = [f"{verdict} " for verdict in ("true", "false", "yes", "no", "sim", "não", "Sim", "Não")] * 30
    tokenizer.train_from_iterator(
        TEXTS * 3 + words,
        trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.add_tokens(["▁true", "▁false"])
    eos_id = tokenizer.token_to_id(eos)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A {eos} $B {eos}", special_tokens=[(eos, eos_id)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": eos,
        "pad_token": pad,
        "unk_token": "<unk>",
        **({"bos_token": bos} if bos else {}),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 1,
}
WINDOW = 16 if int(transformers.__version__.split(".")[0]) >= 5 else 4096
"""Gemma 2 of transformers 4.48 itself fails where a text is longer than its sliding window."""

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": False}),
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "gemma": ("Gemma", {}),
    "gemma3": ("Gemma3Text", {"sliding_window": WINDOW, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8}),
    "gemma2": ("Gemma2", {"sliding_window": WINDOW, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    "modernbert-decoder": ("ModernBertDecoder", {"local_attention": 32, "classifier_bias": False}),
    "granite": ("Granite", {"logits_scaling": 4.0, "embedding_multiplier": 2.0}),
}

LEARNED_POSITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"n_positions": 90, "n_embd": 32, "n_layer": 2, "n_head": 4}),
}
"""A family that reads no more tokens than it has positions."""


def vocabulary(folder: Path) -> int:
    return int(Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size())


def save_causal(folder: Path, family: str = "qwen2", **shape: Any) -> Path:
    """A causal model of one of `FAMILIES` or `LEARNED_POSITIONS`, with `save_chat_tokenizer`'s tokenizer."""
    kind, own = {**FAMILIES, **LEARNED_POSITIONS}[family]
    if not hasattr(transformers, f"{kind}Config"):
        pytest.skip(f"transformers {transformers.__version__} has no {kind}")
    folder.mkdir(parents=True, exist_ok=True)
    save_chat_tokenizer(folder)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **own, **shape, "vocab_size": vocabulary(folder)})
    transformers.AutoModelForCausalLM.from_config(config).eval().save_pretrained(folder)
    return folder


def save_t5(folder: Path) -> Path:
    """A small T5 with tied embeddings, and a tokenizer of its kind."""
    folder.mkdir(parents=True, exist_ok=True)
    save_spm_tokenizer(folder, ["<pad>", "</s>", "<unk>", "<extra_id_10>"], "<pad>", "</s>")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=vocabulary(folder),
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        initializer_factor=1.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    transformers.T5ForConditionalGeneration(config).eval().save_pretrained(folder)
    return folder
