"""How many tokens a model reads, by what its checkpoint states."""

from __future__ import annotations

import pytest

from rerank import FastTokens, InvalidOptionsError, TokenLimits, query_limit, reads_segments

CASES = [
    ({}, {}, 512),
    ({"max_position_embeddings": 512}, {}, 512),
    ({"max_position_embeddings": 8192}, {"model_max_length": 1024}, 1024),
    ({"max_position_embeddings": 512}, {"model_max_length": 10**30}, 512),
    ({"max_position_embeddings": 512}, {"model_max_length": 1e30}, 512),
    ({}, {"model_max_length": 1000000000000000019884624838656}, 512),
    ({"max_position_embeddings": 514, "model_type": "roberta"}, {}, 512),
    ({"max_position_embeddings": 8194, "model_type": "xlm-roberta"}, {"model_max_length": 8192}, 8192),
    ({"max_position_embeddings": 514, "model_type": "camembert"}, {"model_max_length": 10**30}, 512),
    ({"max_position_embeddings": -1, "model_type": "deberta-v2"}, {"model_max_length": 300}, 300),
    ({"max_position_embeddings": None}, {"model_max_length": None}, 512),
    ({"max_position_embeddings": 4098, "model_type": "longformer"}, {}, 4096),
    ({"max_position_embeddings": 514, "model_type": "ibert"}, {}, 512),
    ({"max_position_embeddings": 514, "model_type": "xmod"}, {}, 512),
    ({"max_position_embeddings": 514, "model_type": "data2vec-text"}, {}, 512),
    ({"max_position_embeddings": 1026, "model_type": "esm"}, {}, 1024),
    ({"n_positions": 1024, "model_type": "gpt2"}, {}, 1024),
    ({"max_encoder_position_embeddings": 16384, "model_type": "led"}, {}, 16384),
]


@pytest.mark.parametrize(("config", "tokenizer_config", "longest"), CASES)
def test_how_long_a_row_may_be(config, tokenizer_config, longest):
    limits = TokenLimits.read(config, tokenizer_config, pad_id=1)
    assert limits.longest == longest
    assert limits.of_row(None) == min(longest, 1024)


def test_rows_beyond_the_positions_are_refused():
    limits = TokenLimits.read({"max_position_embeddings": 514, "model_type": "roberta"}, {}, pad_id=1)
    assert limits.of_row(512) == 512
    with pytest.raises(InvalidOptionsError, match="beyond the 512 tokens"):
        limits.of_row(513)


def test_relative_positions_have_no_end():
    limits = TokenLimits.read({"max_position_embeddings": 512, "position_biased_input": False}, {}, pad_id=0)
    assert limits.of_row(None) == 512
    assert limits.of_row(5000) == 5000


def test_a_query_has_three_quarters_of_a_row_by_default():
    assert (query_limit(None, 512), query_limit(40, 512)) == (384, 40)


def test_segments_are_read_unless_the_checkpoint_says_otherwise():
    assert reads_segments({})
    assert reads_segments({"tokenizer_class": "AlbertTokenizer"})
    assert not reads_segments({"tokenizer_class": "BigBirdTokenizer"})
    assert not reads_segments({"tokenizer_class": "BigBirdTokenizerFast"})
    assert reads_segments({"tokenizer_class": "BigBirdTokenizer", "model_input_names": ["input_ids", "token_type_ids"]})
    assert reads_segments({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]})
    assert not reads_segments({"model_input_names": ["input_ids", "attention_mask"]})


def bytes_as_tokens(longest: int) -> FastTokens:
    """A tokenizer with a token per byte, saved with truncation and padding."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.enable_truncation(longest)
    tokenizer.enable_padding(length=longest)
    return FastTokens(tokenizer)


@pytest.mark.parametrize(
    ("tokens", "kept"), [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (5, "aé"), (6, "aé熊"), (7, "aé熊b"), (99, "aé熊b")]
)
def test_a_text_is_cut_between_characters(tokens: int, kept: str) -> None:
    assert bytes_as_tokens(99).cut("aé熊b", tokens) == kept


def test_what_a_tokenizer_was_saved_with_cuts_and_fills_nothing() -> None:
    tokens = bytes_as_tokens(4)
    assert tokens.count(["abcdef", "ab"]) == [6, 2]
    assert tokens.cut("abcdef", 5) == "abcde"
