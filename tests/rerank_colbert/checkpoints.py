"""Small late-interaction checkpoints with random weights, in the layouts of the three libraries that save such models.

A module, not tests. BERT has its real vocabulary where the data folder lies beside the checkout; the other tokenizers,
and BERT's elsewhere, are trained here. Every layout is written file by file, so that no library has to be installed.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from rerank.testing.contract import DOCUMENTS, QUERY

BERT = Path(__file__).parents[3] / "shared/data/tokenizers/bert-base-uncased/tokenizer.json"
MARKERS = ["[unused0]", "[unused1]"]
LIMIT = 256  # positions
HIDDEN = 32

LONG = "Bees that forage carry pollen on their hind legs; a nurse bee (a young worker) feeds larvae with jelly! " * 12
TEXTS = [*DOCUMENTS, "", "?!", "Shares rose when the bank cut its rate, and fell again.", LONG]
"""Documents with two extremes: one without words, and one longer than any limit here."""
QUERIES = [
    QUERY,
    "bees?",
    "Which bees feed the larvae with royal jelly, and which carry pollen on their hind legs? " * 3,
]
"""Queries of which the last is longer than any limit here."""

CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {}),
    "xlm-roberta": ("XLMRoberta", {"type_vocab_size": 1, "max_position_embeddings": LIMIT + 2}),
    "modernbert": (
        "ModernBert",
        {"local_attention": 16, "global_attn_every_n_layers": 2, "initializer_cutoff_factor": 2.0},
    ),
}
SHAPE = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": LIMIT,
    "initializer_range": 0.3,  # so that tokens, and with them documents, differ
}


# The encoder and its tokenizer


def train_tokenizer(kind: str) -> Tokenizer:
    """A tokenizer of the family's sort with a few hundred tokens, every punctuation mark among them."""
    texts = [*TEXTS, *QUERIES, string.ascii_lowercase, *string.punctuation]
    options = {"vocab_size": 400, "show_progress": False}
    if kind == "bert":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        words = ["[PAD]", *MARKERS, "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(special_tokens=words, **options))
        tokenizer.model = models.WordPiece(tokenizer.get_vocab(with_added_tokens=False), unk_token="[UNK]")
    elif kind == "modernbert":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(
            texts, trainers.BpeTrainer(special_tokens=words, initial_alphabet=alphabet, **options)
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        tokenizer.train_from_iterator(
            texts, trainers.UnigramTrainer(special_tokens=words, unk_token="<unk>", **options)
        )
    first, last = ("<s>", "</s>") if kind == "xlm-roberta" else ("[CLS]", "[SEP]")
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(f"{first} $A {last}", None, ids)
    return tokenizer


def save_tokenizer(folder: Path, kind: str, *, words: Sequence[str] = (), pad_with_mask: bool = False) -> int:
    """Write the two files of a tokenizer.

    Args:
        folder: Where to.
        kind: A key of `CLASSES`.
        words: Tokens to add to its vocabulary.
        pad_with_mask: Whether the mask token is also its padding, as PyLate saves it.

    Returns:
        The size of its vocabulary.
    """
    real = kind == "bert" and BERT.exists()
    tokenizer = Tokenizer.from_file(str(BERT)) if real else train_tokenizer(kind)
    tokenizer.add_tokens([AddedToken(word, normalized=True) for word in words])
    tokenizer.save(str(folder / "tokenizer.json"))
    shown = "<{}>".format if kind == "xlm-roberta" else (lambda name: f"[{name.upper()}]")
    names = {f"{name}_token": shown(name) for name in ("unk", "pad", "mask")}
    first, last = ("<s>", "</s>") if kind == "xlm-roberta" else ("[CLS]", "[SEP]")
    names |= {"cls_token": first, "sep_token": last}
    if pad_with_mask:
        names["pad_token"] = names["mask_token"]
    inputs = ["input_ids", *(["token_type_ids"] if kind == "bert" else []), "attention_mask"]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": LIMIT,
        "model_input_names": inputs,
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", {**settings, **names})
    return tokenizer.get_vocab_size()


def build_encoder(folder: Path, kind: str, vocabulary: int) -> Any:
    """The encoder, with no weight that is zero or one by chance."""
    name, own = CLASSES[kind]
    names = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pad = "<pad>" if kind == "xlm-roberta" else "[PAD]"
    special = {"pad_token_id": tokenizer.token_to_id(pad)}
    special |= {"bos_token_id": tokenizer.token_to_id(names["cls_token"])}
    special |= {"eos_token_id": tokenizer.token_to_id(names["sep_token"])}
    if kind == "modernbert":
        special |= {"cls_token_id": special["bos_token_id"], "sep_token_id": special["eos_token_id"]}
    torch.manual_seed(7)
    config = getattr(transformers, f"{name}Config")(**{**SHAPE, **own, **special, "vocab_size": vocabulary})
    model = getattr(transformers, f"{name}Model")(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    return model


def write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")


def change_json(file: Path, **values: Any) -> None:
    """Set keys of a JSON object in place; the value None removes a key."""
    content = {**json.loads(file.read_text(encoding="utf-8")), **values}
    write_json(file, {key: value for key, value in content.items() if value is not None})


# colbert-ai's layout


METADATA = {
    "query_token_id": MARKERS[0],
    "doc_token_id": MARKERS[1],
    "query_token": "[Q]",
    "doc_token": "[D]",
    "query_maxlen": 32,
    "doc_maxlen": 60,
    "dim": 24,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
    "similarity": "cosine",
    "interaction": "colbert",
    "checkpoint": "bert-base-uncased",
    "meta": {"version": "colbert-v0.4"},
}


def save_stanford(
    folder: Path, kind: str = "bert", *, metadata: Mapping[str, Any] | None = METADATA, pickled: bool = False
) -> Path:
    """A checkpoint as colbert-ai 0.2.22 saves it: encoder and projection in one file, ``artifact.metadata`` beside it.

    Args:
        folder: Where to.
        kind: A key of `CLASSES`.
        metadata: What ``artifact.metadata`` says; None leaves the file out.
        pickled: Whether the weights are in ``pytorch_model.bin`` instead of ``model.safetensors``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = build_encoder(folder, kind, save_tokenizer(folder, kind))
    model.config.architectures = ["HF_ColBERT"]
    model.config.save_pretrained(folder)
    dim = (metadata or {}).get(
        "dim", 128
    )  # colbert-ai's own default, with which it reads a checkpoint without the file
    weights = {f"{model.base_model_prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
    weights["linear.weight"] = torch.randn(dim, HIDDEN) / HIDDEN**0.5
    if pickled:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    if metadata is not None:
        write_json(folder / "artifact.metadata", metadata)
    return folder


# PyLate's layout


PROJECTION = {"in_features": HIDDEN, "out_features": 24, "bias": False, "use_residual": False}
IDENTITY = "torch.nn.modules.linear.Identity"
PREFIXES = ("[Q] ", "[D] ")


def save_pylate(
    folder: Path,
    kind: str = "bert",
    *,
    projections: Sequence[Mapping[str, Any]] = (PROJECTION,),
    words: Sequence[str] = PREFIXES,
    **config: Any,
) -> Path:
    """A checkpoint as PyLate 1.6 saves it.

    Args:
        folder: Where to.
        kind: A key of `CLASSES`.
        projections: The configurations of its dense modules, in order.
        words: What it added to the vocabulary.
        config: What differs in ``config_sentence_transformers.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = save_tokenizer(folder, kind, words=words, pad_with_mask=True)
    build_encoder(folder, kind, vocabulary).save_pretrained(folder)
    settings = {
        "model_type": "ColBERT",
        "prompts": {"query": "", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": PREFIXES[0],
        "document_prefix": PREFIXES[1],
        "query_length": 32,
        "document_length": 60,
        "attend_to_expansion_tokens": False,
        "skiplist_words": list(string.punctuation),
        "do_query_expansion": True,
    }
    write_json(folder / "config_sentence_transformers.json", {**settings, **config})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 59, "do_lower_case": False})
    modules = ["sentence_transformers.models.Transformer"] + ["pylate.models.Dense.Dense"] * len(projections)
    save_modules(folder, modules)
    for number, projection in enumerate(projections, 1):
        save_dense(folder / f"{number}_Dense", {"activation_function": IDENTITY, **projection})
    return folder


def save_modules(folder: Path, classes: Sequence[str]) -> None:
    """Write ``modules.json``, each module after the first in a folder named for its class."""
    paths = ["", *(f"{number}_{name.rpartition('.')[2]}" for number, name in enumerate(classes) if number)]
    rows = [
        {"idx": number, "name": str(number), "path": path, "type": name}
        for number, (path, name) in enumerate(zip(paths, classes))
    ]
    write_json(folder / "modules.json", rows)


def save_dense(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a dense module with random weights, and a projection of the residual where its sizes differ."""
    rows, columns = config["out_features"], config["in_features"]
    weights = {"linear.weight": torch.randn(rows, columns) / columns**0.5}
    if config["bias"]:
        weights["linear.bias"] = torch.randn(rows) / 4
    if config.get("use_residual") and rows != columns:
        weights["residual.weight"] = torch.randn(rows, columns) / columns**0.5
    write_json(folder / "config.json", config)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


# sentence-transformers' layout


EXPANSION = {"strategy": "fixed", "attend": False, "token": None, "length": 32}


def save_sentence_transformers(
    folder: Path,
    kind: str = "bert",
    *,
    prompts: Mapping[str, str] = {"query": "query: ", "document": "passage: "},
    words: Sequence[str] = (),
    skiplist: Sequence[str] = tuple(string.punctuation),
    skiplist_tasks: Sequence[str] = ("document",),
    similarity: str = "maxsim",
    **transformer: Any,
) -> Path:
    """A checkpoint as the MultiVectorEncoder of sentence-transformers 6.2 saves it.

    Args:
        folder: Where to.
        kind: A key of `CLASSES`.
        prompts: What it puts before a text.
        words: What it added to the vocabulary.
        skiplist: Tokens that do not count.
        skiplist_tasks: Where they do not count.
        similarity: ``maxsim`` or ``meanmaxsim``.
        transformer: What differs in ``sentence_bert_config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    build_encoder(folder, kind, save_tokenizer(folder, kind, words=words)).save_pretrained(folder)
    package = "sentence_transformers"
    modules = [
        f"{package}.base.modules.transformer.Transformer",
        f"{package}.base.modules.dense.Dense",
        f"{package}.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask",
        f"{package}.base.modules.normalize.Normalize",
    ]
    save_modules(folder, modules)
    settings = {"model_type": "MultiVectorEncoder", "prompts": prompts, "default_prompt_name": None}
    write_json(folder / "config_sentence_transformers.json", {**settings, "similarity_fn_name": similarity})
    reading = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "document_length": 60,
        "query_expansion": EXPANSION,
    }
    write_json(folder / "sentence_bert_config.json", {**reading, **transformer})
    names = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    dense = {"in_features": HIDDEN, "out_features": 24, "bias": False, "activation_function": IDENTITY, **names}
    save_dense(folder / "1_Dense", dense)
    mask = {"skiplist_words": list(skiplist), "skiplist_tasks": list(skiplist_tasks), "keep_only_token_ids": None}
    write_json(folder / "2_MultiVectorMask" / "config.json", mask)
    write_json(folder / "3_Normalize" / "config.json", names)
    return folder
