"""The checkpoint's own ``tokenizer.json`` encodes the text, whatever transformers makes of its class."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402

from rerank import ModelLoadError, ModelRef, find_pad_id, read_tokenizer_config  # noqa: E402
from rerank_torch import TorchOptions  # noqa: E402
from rerank_torch.tokens import load_tokens  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "wifi", "router", "1", "/", "2", "price", "##s", "½"]
TEXTS = ["ＷｉＦｉ ｒｏｕｔｅｒ, ½ price", "A ROUTER", "wifi-router prices", ""]


def write(folder, *, normalizer=None, pre_tokenizer=None, pair="[CLS] $A [SEP] $B:1 [SEP]:1", config=None):
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer or normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", pair, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {name: f"[{name[:3].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token")}
    stated = {"tokenizer_class": "BertTokenizer", "model_max_length": 64, "mask_token": "[MASK]", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps({**stated, **(config or {})}))
    return ModelRef(name=str(folder)), Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    "own",
    [
        {"normalizer": normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer()])},
        {"normalizer": normalizers.Sequence([normalizers.Replace("½", "1/2"), normalizers.BertNormalizer()])},
        {"normalizer": normalizers.BertNormalizer(lowercase=False)},
        {"pre_tokenizer": pre_tokenizers.WhitespaceSplit()},
        {"pair": "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1"},
        {"pair": "[CLS] $A [SEP] $B [SEP]"},
    ],
)
def test_normalizers_pre_tokenizers_and_templates_are_the_files_own(tmp_path, own):
    model, truth = write(tmp_path, **own)
    tokens = load_tokens(model, TorchOptions())
    assert tokens(TEXTS) == [truth.encode(text, add_special_tokens=False).ids for text in TEXTS]
    layout = tokens.pair_layout()
    for query in TEXTS:
        for document, ids in zip(TEXTS, tokens(TEXTS)):
            (first,) = tokens([query])
            joined, row = truth.encode(query, document), layout.row(first, ids)
            assert (row, layout.type_ids(len(first), len(row))) == (joined.ids, joined.type_ids)


def test_a_model_that_reads_no_segments_gets_none(tmp_path):
    model, _ = write(tmp_path, config={"model_input_names": ["input_ids", "attention_mask"]})
    assert load_tokens(model, TorchOptions()).pair_layout().types == (0, 0)


def test_tokenizer_kwargs_have_transformers_build_it(tmp_path):
    model, _ = write(tmp_path)
    options = TorchOptions(tokenizer_kwargs={"model_max_length": 7, "pad_token": "[MASK]"})
    tokens = load_tokens(model, options)
    built = transformers.AutoTokenizer.from_pretrained(tmp_path, **options.tokenizer_kwargs)
    assert tokens(TEXTS) == built(TEXTS, add_special_tokens=False)["input_ids"]
    assert find_pad_id(tokens, {}, {**read_tokenizer_config(model), **options.tokenizer_kwargs}) == WORDS.index(
        "[MASK]"
    )


@pytest.mark.parametrize(
    "kwargs",
    [
        {"model_max_length": 7, "padding_side": "left"},
        {"use_fast": False},
        {"chat_template": "{{ messages }}", "clean_up_tokenization_spaces": True},
    ],
)
def test_arguments_that_change_no_text_leave_the_file_in_charge(tmp_path, kwargs):
    model, truth = write(tmp_path, pair="[CLS] $A [SEP] [SEP] $B:1 [SEP]:1")
    tokens = load_tokens(model, TorchOptions(tokenizer_kwargs=kwargs))
    assert tokens.join("a", "price") == (truth.encode("a", "price").ids, truth.encode("a", "price").type_ids)


@pytest.mark.parametrize("trusted", [False, True])
def test_the_file_stands_in_for_a_tokenizer_of_the_checkpoints_own_code(tmp_path, trusted):
    model, truth = write(tmp_path, config={"auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}})
    (tmp_path / "own.py").write_text("raise RuntimeError('never run')")
    tokens = load_tokens(model, TorchOptions(trust_remote_code=trusted))
    assert tokens.join("a", "price")[0] == truth.encode("a", "price").ids


def test_tokenizer_kwargs_change_what_they_ask_for(tmp_path):
    model, truth = write(tmp_path)
    cased = load_tokens(model, TorchOptions(tokenizer_kwargs={"do_lower_case": False}))
    truth.normalizer = normalizers.BertNormalizer(lowercase=False)
    assert cased(TEXTS) == [truth.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert cased(["A ROUTER"]) != load_tokens(model, TorchOptions())(["A ROUTER"])


def test_special_tokens_in_a_text_are_split_where_asked(tmp_path):
    model, _ = write(tmp_path)
    assert load_tokens(model, TorchOptions())(["wifi [SEP]"]) == [[WORDS.index("wifi"), WORDS.index("[SEP]")]]
    split = load_tokens(model, TorchOptions(tokenizer_kwargs={"split_special_tokens": True}))
    assert WORDS.index("[SEP]") not in split(["wifi [SEP]"])[0]


@pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 reads the file as it stands")
@pytest.mark.parametrize("kwargs", [{"do_lower_case": True}, {"add_prefix_space": True, "padding_side": "left"}])
@pytest.mark.parametrize(
    ("own", "differing"),
    [
        (
            {"normalizer": normalizers.Sequence([normalizers.NFKC(), normalizers.BertNormalizer()])},
            "the text 'ＷｉＦｉ",
        ),
        ({"pre_tokenizer": pre_tokenizers.WhitespaceSplit()}, "the text 'Wi-Fi router"),
        ({"pair": "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1"}, r"the pair \('Wi-Fi router"),
        ({"pair": "[CLS] $A [SEP] $B [SEP]"}, r"the pair \('Wi-Fi router"),
    ],
)
def test_a_rebuilt_tokenizer_that_differs_from_the_file_in_more_is_refused(tmp_path, kwargs, own, differing):
    model, _ = write(tmp_path, **own)
    advice = f"leave out {next(iter(kwargs))}, or change tokenizer.json"
    with pytest.raises(ModelLoadError, match=f"it reads {differing}.*{advice}"):
        load_tokens(model, TorchOptions(tokenizer_kwargs=kwargs))


def test_segments_that_the_model_does_not_read_may_differ(tmp_path):
    model, truth = write(tmp_path, config={"tokenizer_class": "DistilBertTokenizer"})
    tokens = load_tokens(model, TorchOptions(tokenizer_kwargs={"do_lower_case": True}))
    assert tokens.join("a", "price")[0] == truth.encode("a", "price").ids


def test_without_the_file_transformers_builds_it(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    tokens = load_tokens(ModelRef(name=str(tmp_path)), TorchOptions())
    assert tokens(["wifi router"]) == [[WORDS.index("wifi"), WORDS.index("router")]]
    assert len(tokens.pair_layout()) == 3


def test_the_length_that_sentence_transformers_saved_counts(tmp_path):
    model, _ = write(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 33}))
    assert read_tokenizer_config(model)["model_max_length"] == 33


@pytest.mark.parametrize("content", ["", "[]", '{"model": 1}'])
def test_a_damaged_file_is_named(tmp_path, content):
    model, _ = write(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokens(model, TorchOptions())
