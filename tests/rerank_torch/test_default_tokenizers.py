"""The default model of every language reads pairs as its own ``tokenizer.json`` says, whichever class it names."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import (  # noqa: E402
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from rerank import ModelRef  # noqa: E402
from rerank.registry import installed  # noqa: E402
from rerank_torch import TorchOptions  # noqa: E402
from rerank_torch.tokens import load_tokens  # noqa: E402

TEXTS = {
    "en": ["Which router has Wi-Fi?", "The ＷｉＦｉ router costs 1½ times the naïve   price,\nsay №5 ﬁrms."],
    "fr": ["Où est l'élève ?", "L'élève naïf — « là-bas » — mange un bœuf à 3,50 €."],
    "es": ["¿Dónde está el niño?", "El niño está aquí: ¡qué alegría, 1.º de año!"],
    "pt": ["Onde fica a estação?", "A estação não é longe; são só 2 km até o avô."],
    "zh": ["蜜蜂怎么找到花？", "采集蜂跳舞，１２３ 只蜜蜂跟着飞。"],
    "ja": ["ミツバチは何を食べますか", "ﾐﾂﾊﾞﾁは花の蜜と花粉を食べます。㍿も㌔も。"],
    "ar": ["أين يعيش النحل؟", "يعيش النَّحْلُ في الخلايا ﷺ ١٢٣."],
    "de": ["Was kostet der Käse?", "Der KÄSE kostet 12,50 € je Straße; ẞ und ß."],
    "ko": ["꿀벌은 어디에 사나요?", "꿀벌은 벌집에 삽니다."],
    "ru": ["Где живут пчёлы?", "Пчёлы живут в ульях; ЁЛКИ."],
    "th": ["ผึ้งอยู่ที่ไหน", "ผึ้งอยู่ในรัง 👩\u200d🔬"],
    "hi": ["मधुमक्खी कहाँ रहती है?", "मधुमक्खी छत्ते में रहती है।"],
}
"""A query and a document per language, with characters that normalizers change."""


# Layouts: a small tokenizer of each family, trained here, and the class that a checkpoint of it names


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    train(tokenizer, trainers.WordPieceTrainer, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    frame(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return tokenizer


def xlm_roberta():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = charsmap()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    train(tokenizer, trainers.UnigramTrainer, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], unk_token="<unk>")
    frame(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    return tokenizer


def deberta_v2():
    tokenizer = Tokenizer(models.Unigram())
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), charsmap(), spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace()])
    train(tokenizer, trainers.UnigramTrainer, ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"], unk_token="[UNK]")
    frame(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")
    return tokenizer


def t5():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = charsmap()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    train(tokenizer, trainers.UnigramTrainer, ["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    frame(tokenizer, "$A </s>", "$A </s> $B </s>")
    return tokenizer


def modernbert():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train(tokenizer, trainers.BpeTrainer, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], **BYTES)
    frame(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]")
    return tokenizer


def qwen():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    split = pre_tokenizers.Split(words, "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    train(tokenizer, trainers.BpeTrainer, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], **BYTES)
    return tokenizer


def llama():
    """Byte fallback, and a space in front: Llama, Mistral, MiniCPM and Gemma."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    train(tokenizer, trainers.BpeTrainer, ["<unk>", "<s>", "</s>", *byte_tokens])
    frame(tokenizer, "<s> $A", "<s> $A <s>:1 $B:1")
    return tokenizer


BYTES = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}


def train(tokenizer, trainer, specials, **options):
    """400 tokens of texts without the rare characters, so that whoever does not normalize meets unknown ones."""
    size = len(specials) + 400
    texts = [text for pair in TEXTS.values() for text in pair]
    named = [AddedToken(token, special=True, normalized=False) for token in specials]
    tokenizer.train_from_iterator(texts, trainer(vocab_size=size, special_tokens=named, show_progress=False, **options))


def frame(tokenizer, single, pair):
    names = {part.partition(":")[0] for part in pair.split()} - {"$A", "$B"}
    ids = [(name, tokenizer.token_to_id(name)) for name in sorted(names)]
    tokenizer.post_processor = processors.TemplateProcessing(single, pair, ids)


def charsmap():
    """A normalizer as sentencepiece compiles it: a trie of bytes as a double array, and what each entry becomes.

    The format is that of darts-clone. Every node has a block of 256 units of its own, which is large and simple.
    """
    changes = {
        "Ｗ": "W",
        "Ｆ": "F",
        "ｉ": "i",
        "½": "1⁄2",
        "№": "No",
        "ﬁ": "fi",
        "１": "1",
        "２": "2",
        "３": "3",
        "\n": " ",
    }
    units, blocks, texts = [0] * 512, {b"": 256}, b""
    for source, target in changes.items():
        key = source.encode()
        for end in range(1, len(key) + 1):
            if key[:end] not in blocks:
                blocks[key[:end]] = len(units)
                units += [0] * 256
                place = blocks[key[: end - 1]] + key[end - 1]
                units[place] = (place ^ blocks[key[:end]]) << 10 | key[end - 1]
        last = blocks[key[:-1]] + key[-1]
        units[last] |= 1 << 8  # has a value
        units[blocks[key]] = 1 << 31 | len(texts)
        texts += target.encode() + b"\0"
    units[0] = blocks[b""] << 10
    return normalizers.Precompiled(struct.pack(f"<I{len(units)}I", 4 * len(units), *units) + texts)


LAYOUTS = {
    bert: "BertTokenizer",
    xlm_roberta: "XLMRobertaTokenizer",
    deberta_v2: "DebertaV2Tokenizer",
    t5: "T5Tokenizer",
    modernbert: "PreTrainedTokenizerFast",
    qwen: "Qwen2Tokenizer",
    llama: "LlamaTokenizer",
}

OF_MODEL = {
    "colbert-ir/colbertv2.0": bert,
    "AdrienB134/ColBERTv2.0-spanish-mmarcoES": bert,
    "bclavie/FraColBERTv2": xlm_roberta,
    "bclavie/JaColBERTv2": bert,
    "lightonai/GTE-ModernColBERT-v1": modernbert,
    "mixedbread-ai/mxbai-rerank-base-v1": deberta_v2,
    "antoinelouis/crossencoder-camembert-base-mmarcoFR": xlm_roberta,
    "BAAI/bge-reranker-base": xlm_roberta,
    "BAAI/bge-reranker-large": xlm_roberta,
    "BAAI/bge-reranker-v2-m3": xlm_roberta,
    "corrius/cross-encoder-mmarco-mMiniLMv2-L12-H384-v1": xlm_roberta,
    "castorini/rank_zephyr_7b_v1_full": llama,
    "castorini/rank_vicuna_7b_v1": llama,
    "castorini/LiT5-Distill-base": t5,
    "castorini/duot5-base-msmarco": t5,
    "jinaai/jina-reranker-v3": qwen,
    "unicamp-dl/InRanker-base": t5,
    "unicamp-dl/ptt5-base-pt-msmarco-100k-v2": t5,
    "unicamp-dl/mt5-base-mmarco-v2": t5,
    "Qwen/Qwen3-Reranker-0.6B": qwen,
    "mixedbread-ai/mxbai-rerank-base-v2": qwen,
    "BAAI/bge-reranker-v2-minicpm-layerwise": llama,
    "BAAI/bge-reranker-v2.5-gemma2-lightweight": llama,
    "ms-marco-TinyBERT-L-2-v2": bert,
    "ms-marco-MiniLM-L-12-v2": bert,
    "ms-marco-MultiBERT-L-12": bert,
    "ce-esci-MiniLM-L12-v2": bert,
    "miniReranker_arabic_v1": bert,
    "rank-T5-flan": t5,
}
"""The family of each default model's tokenizer."""

REAL = {
    "colbert-ir/colbertv2.0": "bert-base-uncased",
    "ms-marco-TinyBERT-L-2-v2": "bert-base-uncased",
    "ms-marco-MiniLM-L-12-v2": "bert-base-uncased",
    "ce-esci-MiniLM-L12-v2": "bert-base-uncased",
    "ms-marco-MultiBERT-L-12": "bert-multilingual-uncased",
    "castorini/rank_zephyr_7b_v1_full": "phi-3",
    "castorini/rank_vicuna_7b_v1": "phi-3",
    "castorini/LiT5-Distill-base": "t5-small",
    "castorini/duot5-base-msmarco": "t5-small",
    "unicamp-dl/InRanker-base": "t5-small",
    "rank-T5-flan": "t5-small",
}
"""Default models whose vocabulary is among the real ones of the data folder."""

DEFAULTS = sorted(
    {
        (backend.name, language, alias.model)
        for backend in installed().backends.values()
        if backend.name not in ("api", "nano")
        for languages in backend.aliases.values()
        for language, alias in languages.items()
        if not alias.model.startswith("gpt-")
    }
)
"""Backend, language and model of every alias that a tokenizer of ours reads."""


def texts_of(language):
    return [tuple(TEXTS[language])] if language in TEXTS else [tuple(pair) for pair in TEXTS.values()]


# Tests


@cache
def trained(layout) -> str:
    return layout().to_str()


def write(folder: Path, tokenizer: str, named: str) -> ModelRef:
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named, "model_max_length": 512}))
    (folder / "config.json").write_text("{}")
    return ModelRef(name=str(folder))


def load(backend: str, model: ModelRef):
    if backend != "onnx":
        return load_tokens(model, TorchOptions())
    from rerank_onnx.checkpoint import Checkpoint
    from rerank_onnx.tokens import load_tokens as load_of_graph

    folder = Path(model.name)
    none: Mapping[str, object] = {}
    return load_of_graph(
        Checkpoint(model=model, graph=folder, tokenizer=folder / "tokenizer.json", config=none, tokenizer_config=none)
    )


def assert_reads_as_its_file(tokens, file: Path, pairs):
    truth = Tokenizer.from_file(str(file))
    truth.no_truncation()
    truth.no_padding()
    layout = tokens.pair_layout()
    for query, document in pairs:
        first, second = tokens([query, document])
        row, joined = layout.row(first, second), truth.encode(query, document)
        assert (row, layout.type_ids(len(first), len(row))) == (joined.ids, joined.type_ids)


@pytest.mark.parametrize(("backend", "language", "name"), DEFAULTS)
def test_the_default_of_a_language_reads_pairs_as_its_file_says(tmp_path, backend, language, name):
    layout = OF_MODEL[name]
    model = write(tmp_path, trained(layout), LAYOUTS[layout])
    assert_reads_as_its_file(load(backend, model), tmp_path / "tokenizer.json", texts_of(language))


@pytest.mark.parametrize(("backend", "language", "name"), [default for default in DEFAULTS if default[2] in REAL])
def test_the_real_tokenizer_of_a_default_does_too(shared, tmp_path, backend, language, name):
    file = shared / "data/tokenizers" / REAL[name] / "tokenizer.json"
    if not file.exists():
        pytest.skip(f"needs the tokenizer {REAL[name]} in the data folder")
    model = write(tmp_path, file.read_text(encoding="utf-8"), LAYOUTS[OF_MODEL[name]])
    assert_reads_as_its_file(load(backend, model), file, texts_of(language))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_each_layout_changes_what_it_ought_to(layout):
    """What the tests above compare with is no tokenizer that leaves every text as it is."""
    tokenizer = Tokenizer.from_str(trained(layout))
    pair = tokenizer.encode("Wi", "Fi")
    assert len(pair.ids) >= 2
    if layout in (bert, xlm_roberta, deberta_v2, t5):
        assert tokenizer.encode("ＷｉＦｉ №").ids == tokenizer.encode("WiFi No").ids


def test_a_python_tokenizer_encodes_only_where_there_is_no_file(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys("".join(TEXTS["ja"]))]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    named = {"word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}
    config = json.dumps({"tokenizer_class": "BertJapaneseTokenizer", **named})
    (tmp_path / "tokenizer_config.json").write_text(config)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    own = transformers.AutoTokenizer.from_pretrained(tmp_path)
    query, document = TEXTS["ja"]
    tokens = load_tokens(ModelRef(name=str(tmp_path)), TorchOptions())
    assert tokens.spans(query) is None
    first, second = tokens([query, document])
    assert tokens.pair_layout().row(first, second) == own(query, document)["input_ids"]

    (tmp_path / "tokenizer.json").write_text(trained(bert), encoding="utf-8")
    for options in (TorchOptions(), TorchOptions(tokenizer_kwargs={"use_fast": False})):
        tokens = load_tokens(ModelRef(name=str(tmp_path)), options)
        assert_reads_as_its_file(tokens, tmp_path / "tokenizer.json", [TEXTS["ja"]])
