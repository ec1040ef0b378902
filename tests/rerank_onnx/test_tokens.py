"""Token ids, layouts learnt from a tokenizer, padding of short rows, and the longest row."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, processors

from rerank import ModelLoadError, ModelRef, find_pad_id
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_onnx.checkpoint import Checkpoint
from rerank_onnx.tokens import load_tokens

REAL = [
    "bert-base-uncased/tokenizer.json",
    "bert-base-uncased/tokenizer.all-MiniLM-L6-v2.json",
    "bert-multilingual-uncased/tokenizer.json",
    "phi-3/tokenizer.json",
    "roberta-base/tokenizer.json",
    "t5-small/tokenizer.json",
]
TEXTS = [*DOCUMENTS, "", "\u200b", "[SEP] </s> <s>", " leading and  double spaces ", "word " * 700]


def tokens_of(file):
    return load_tokens(
        Checkpoint(model=ModelRef("toy"), graph=Path("unread.onnx"), tokenizer=file, config={}, tokenizer_config={})
    )


def assert_layouts_hold(file):
    """Rows put together by the layouts are the tokenizer's own, of pairs and of single texts."""
    tokens = tokens_of(file)
    truth = Tokenizer.from_file(str(file))
    truth.no_truncation()
    truth.no_padding()
    pair, single = tokens.pair_layout(), tokens.single_layout()
    (query,) = tokens([QUERY])
    for text, ids in zip(TEXTS, tokens(TEXTS)):
        joined = truth.encode(QUERY, text)
        row = pair.row(query, ids)
        assert row == joined.ids
        assert pair.type_ids(len(query), len(row)) == joined.type_ids
        assert single.row((), ids) == truth.encode(text).ids


@pytest.mark.parametrize("kind", ["bert", "roberta", "t5"])
def test_layouts_are_the_tokenizers_own(tokenizers, tmp_path, kind):
    tokenizers[kind].save(str(tmp_path / "tokenizer.json"))
    assert_layouts_hold(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("name", REAL)
def test_layouts_of_real_tokenizers_are_their_own(shared, name):
    assert_layouts_hold(shared / "data/tokenizers" / name)


def test_a_tokenizer_without_specials_has_empty_layouts(tokenizers, tmp_path):
    bare = Tokenizer.from_str(tokenizers["bert"].to_str())
    bare.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    bare.save(str(tmp_path / "tokenizer.json"))
    tokens = tokens_of(tmp_path / "tokenizer.json")
    assert len(tokens.pair_layout()) == len(tokens.single_layout()) == 0


@pytest.mark.parametrize("pair", ["[CLS] $B [SEP] $A:1 [SEP]:1", "[CLS] $A [SEP]"])
def test_a_pair_joined_otherwise_is_an_error(tokenizers, tmp_path, pair):
    odd = Tokenizer.from_str(tokenizers["bert"].to_str())
    odd.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair=pair if "$B" in pair else "[CLS] $A [SEP] $B:1 $A:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    odd.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelLoadError, match="does not join query and document in a fixed layout"):
        tokens_of(tmp_path / "tokenizer.json").pair_layout()


def test_a_tokenizers_padding_and_truncation_change_nothing(tokenizers, tmp_path):
    set_up = Tokenizer.from_str(tokenizers["bert"].to_str())
    set_up.enable_truncation(5)
    set_up.enable_padding(length=64)
    set_up.save(str(tmp_path / "tokenizer.json"))
    plain = tokenizers["bert"].encode_batch(TEXTS, add_special_tokens=False)
    tokens = tokens_of(tmp_path / "tokenizer.json")
    assert tokens(TEXTS) == [encoding.ids for encoding in plain]
    assert len(tokens.pair_layout()) == 3


def test_the_padding_id_is_the_models_own_then_the_tokenizers(tokenizers, tmp_path):
    file = tmp_path / "tokenizer.json"
    tokenizers["roberta"].save(str(file))
    assert find_pad_id(tokens_of(file), {}, {}) == 1
    assert find_pad_id(tokens_of(file), {}, {"pad_token": "</s>"}) == 2
    assert find_pad_id(tokens_of(file), {}, {"pad_token": {"content": "</s>"}}) == 2
    set_up = Tokenizer.from_str(tokenizers["roberta"].to_str())
    set_up.enable_padding(pad_id=3)
    set_up.save(str(file))
    assert find_pad_id(tokens_of(file), {}, {"pad_token": "</s>"}) == 3
    assert find_pad_id(tokens_of(file), {"pad_token_id": 5}, {}) == 5
    assert find_pad_id(tokens_of(file), {"pad_token_id": -1}, {}) == 3
