"""Small checkpoints of real architectures, each with a tokenizer of its family, written to disk once per session."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from rerank.testing.contract import DOCUMENTS, QUERY  # noqa: E402

torch.set_num_threads(1)  # models this small only wait for each other's threads

TEXTS = [QUERY, *DOCUMENTS, "The quick brown fox jumps over the lazy dog.", "Zucker, Öl und Käse; 12.5 % of 1,024?"]
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "max_position_embeddings": 160,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """torch's and transformers' own deprecations are theirs; ours stay errors."""
    for item in items:
        if "rerank_crossencoder" in str(item.path):
            for said in (
                "ignore:.*(swig|Swig|SwigPy).*:DeprecationWarning",
                "ignore::FutureWarning:transformers",
                "ignore::DeprecationWarning:torch",
                "ignore:.*TF32.*:UserWarning",
            ):
                item.add_marker(pytest.mark.filterwarnings(said))


def train(kind: str) -> tuple[Any, dict[str, str]]:
    """A tokenizer of 400 tokens with the pair layout of its family, and the names of its special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    bert = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    roberta = {
        "bos": "<s>",
        "pad": "<pad>",
        "eos": "</s>",
        "unk": "<unk>",
        "mask": "<mask>",
        "cls": "<s>",
        "sep": "</s>",
    }
    names = roberta if kind in ("roberta", "xlm-roberta") else bert
    specials = list(dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>"] if names is roberta else ["[PAD]"]))
    specials += [name for name in names.values() if name not in specials]
    if kind in ("bert", "electra"):
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer: Any = trainers.WordPieceTrainer(vocab_size=400, special_tokens=specials, show_progress=False)
    elif kind in ("roberta", "modernbert"):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=specials, unk_token=names["unk"], show_progress=False
        )
    tokenizer.train_from_iterator(TEXTS, trainer)
    first, last = names["cls"], names["sep"]
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    if names is roberta:
        pair = f"{first} $A {last} {last} $B {last}"
    else:
        second = 0 if kind == "modernbert" else 1
        pair = f"{first} $A {last} $B:{second} {last}:{second}"
    tokenizer.post_processor = processors.TemplateProcessing(f"{first} $A {last}", pair, ids)
    return tokenizer, {f"{name}_token": token for name, token in names.items()}


def wrap(tokenizer: Any, names: dict[str, str], *, types: bool, limit: int) -> Any:
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, model_max_length=limit, **names
    )


CLASSES = {
    "bert": ("Bert", {}),
    "electra": ("Electra", {"embedding_size": 16}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "max_position_embeddings": 162}),
    "xlm-roberta": ("XLMRoberta", {"type_vocab_size": 1, "max_position_embeddings": 162}),
    "deberta-v2": (
        "DebertaV2",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pooler_hidden_size": 32,
            "type_vocab_size": 0,
        },
    ),
    "modernbert": (
        "ModernBert",
        {"local_attention": 16, "global_attn_every_n_layers": 2, "initializer_cutoff_factor": 2.0},
    ),
}


def build_checkpoint(folder: Path, kind: str, tokenizer: Any = None, **config: Any) -> Path:
    """Save a checkpoint with random weights; everything in ``config`` is the configuration's."""
    name, own = CLASSES[kind]
    limit = 160
    if tokenizer is None:
        tokenizer = wrap(*train(kind), types=kind in ("bert", "electra", "deberta-v2"), limit=limit)
    torch.manual_seed(7)
    settings = {**SMALL, **own, "num_labels": 1, "vocab_size": len(tokenizer), **config}
    for token in ("pad", "bos", "eos", "cls", "sep"):
        value = getattr(tokenizer, f"{token}_token_id", None)
        settings.setdefault(f"{token}_token_id", value)
    model = getattr(transformers, f"{name}ForSequenceClassification")(
        getattr(transformers, f"{name}Config")(**settings)
    )
    for parameter in model.parameters():  # biases too, so that no term is zero by chance
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``checkpoint("bert", num_labels=2)``: a folder, built once."""
    built: dict[str, Path] = {}

    def make(kind: str, **config: Any) -> Path:
        key = f"{kind} {sorted(config.items())}"
        if key not in built:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                built[key] = build_checkpoint(tmp_path_factory.mktemp(kind), kind, **config)
        return built[key]

    return make


@pytest.fixture(scope="session")
def build() -> Callable[..., Path]:
    """``build(folder, "bert", tokenizer)``: a checkpoint with this very tokenizer."""
    return build_checkpoint


@pytest.fixture(scope="session")
def bare() -> Callable[..., list[list[float]]]:
    """``bare(folder, query, texts)``: the logits of a plain transformers forward, a pair at a time."""

    def run(folder: Path, query: str, texts: list[str]) -> list[list[float]]:
        encode = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        with torch.inference_mode():
            return [
                model(**encode(query, text, truncation="only_second", max_length=160, return_tensors="pt"))
                .logits[0]
                .tolist()
                for text in texts
            ]

    return run
