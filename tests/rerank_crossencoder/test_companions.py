"""A score depends on no other document: where padding changes what a model computes, only equal lengths share a batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from rerank import InvalidOptionsError, ModelLoadError, Reranker, ScoringError

pytestmark = pytest.mark.filterwarnings("default")  # those of transformers, in models of its own
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.2,
    "max_position_embeddings": 160,
}
QUERY = "how do bees find flowers"
DOCUMENTS = [
    "They dance!",
    "shares rose!!",
    "a flower is an organ of a plant, which insects visit for its nectar " * 3,
    "hello!",
    "A web page </s> with a tag",
    "bees " * 40,
]
ENCODER = {**SMALL, "embedding_size": 32}
DECODER = {"initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
ENCODER_DECODER = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 160,
    "init_std": 0.2,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
PADDED = {
    "Bert": SMALL,
    "Funnel": {
        "d_model": 32,
        "n_head": 4,
        "d_head": 8,
        "d_inner": 48,
        "block_sizes": [1, 1],
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "Longformer": {**SMALL, "attention_window": [16, 16, 16], "pad_token_id": 0},
    "Llama": {**SMALL, "num_key_value_heads": 2, "pad_token_id": 0},
}
BY_LENGTH = {
    "FNet": SMALL,
    "ConvBert": ENCODER,
    "Nystromformer": SMALL,
    "GPT2": {**DECODER, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160},
    "Bloom": {**DECODER, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "Bart": ENCODER_DECODER,
    "Canine": SMALL,
}


def train() -> Any:
    """Byte-level pieces whose token 0 is a word of the documents, with ``</s>`` as the one special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*DOCUMENTS, QUERY], trainer)
    assert tokenizer.token_to_id("!") == 0
    return tokenizer


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def build(kind: str, config: dict[str, Any]) -> Path:
        tokenizer = train()
        if kind == "Bart":
            tokenizer.add_special_tokens(["</s>"])
            end = tokenizer.token_to_id("</s>")
            config = {**config, "eos_token_id": end, "decoder_start_token_id": end, "bos_token_id": None}
            tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", end)])
        wrapped = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], model_max_length=160
        )
        torch.manual_seed(3)
        settings = getattr(transformers, f"{kind}Config")(vocab_size=tokenizer.get_vocab_size(), num_labels=1, **config)
        network = getattr(transformers, f"{kind}ForSequenceClassification")(settings).eval()
        for parameter in network.parameters():
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, mean=parameter.mean().item(), std=0.1)
        network.save_pretrained(tmp_path)
        wrapped.save_pretrained(tmp_path)
        return tmp_path

    return build


def alone(folder: Path) -> list[float]:
    """One pair at a time through plain transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scores = []
    with torch.inference_mode():
        for text in DOCUMENTS:
            ids = tokenizer(QUERY, text, truncation="only_second", max_length=160)["input_ids"]
            scores.append(network(input_ids=torch.tensor([ids])).logits[0].item())
    return scores


@pytest.mark.parametrize("kind", [*PADDED, *BY_LENGTH])
def test_a_score_is_that_of_the_pair_alone(save: Callable[..., Path], kind: str) -> None:
    folder = save(kind, {**PADDED, **BY_LENGTH}[kind])
    with Reranker(folder, backend="cross-encoder", device="cpu", threads=1, max_batch_tokens=4096) as reranker:
        ranked = reranker.rank(QUERY, DOCUMENTS)
        together = [result.score for result in sorted(ranked, key=lambda result: result.index or 0)]
        assert together == pytest.approx(alone(folder), abs=2e-4)
        assert together == pytest.approx([reranker.score(QUERY, text) for text in DOCUMENTS], abs=2e-4)


@pytest.mark.parametrize("kind", [*PADDED, *BY_LENGTH])
def test_only_models_that_padding_changes_lose_it(save: Callable[..., Path], kind: str) -> None:
    folder = save(kind, {**PADDED, **BY_LENGTH}[kind])
    batches: list[tuple[int, ...]] = []
    with Reranker(folder, backend="cross-encoder", device="cpu", threads=1, max_batch_tokens=4096) as reranker:
        device = reranker.scorer.runner._run  # type: ignore[attr-defined]
        forward = device.forward
        device.forward = lambda batch: batches.append(batch.lengths) or forward(batch)
        reranker.rank(QUERY, DOCUMENTS)
    mixed = [lengths for lengths in batches if len(set(lengths)) > 1]
    assert bool(mixed) == (kind in PADDED or kind == "Bart")


LONG = {
    "Esm": {**SMALL, "pad_token_id": 1, "mask_token_id": 4, "position_embedding_type": "absolute"},
    "GPT2": BY_LENGTH["GPT2"],
    "OpenAIGPT": {**DECODER, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 160},
    "Data2VecText": {**SMALL, "pad_token_id": 1},
    "IBert": {**SMALL, "pad_token_id": 1},
    "Luke": {**SMALL, "pad_token_id": 1, "entity_vocab_size": 50, "entity_emb_size": 16},
    "Lilt": {**SMALL, "hidden_size": 48, "pad_token_id": 1, "channel_shrink_ratio": 2},
    "MarkupLM": {**SMALL, "pad_token_id": 1},
    "Longformer": {**SMALL, "pad_token_id": 1, "attention_window": [16, 16, 16]},
    "MPNet": {**SMALL, "pad_token_id": 1},
    "Mra": SMALL,
    "OPT": {**SMALL, "word_embed_proj_dim": 32, "ffn_dim": 48, "pad_token_id": 1},
    "Roberta": {**SMALL, "pad_token_id": 1},
    "XLMRoberta": {**SMALL, "pad_token_id": 1},
    "Camembert": {**SMALL, "pad_token_id": 1},
    "XLM": {
        "emb_dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 160,
        "pad_index": 1,
        "embed_init_std": 0.2,
    },
    "Flaubert": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 160, "pad_index": 1},
}


def longest_row(folder: Path) -> int:
    """How many tokens the bare network reads."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def reads(length: int) -> bool:
        try:
            network(input_ids=torch.full((1, length), 7), attention_mask=torch.ones(1, length, dtype=torch.long))
        except (IndexError, RuntimeError):
            return False
        return True

    with torch.inference_mode():
        return max(filter(reads, range(150, 165)))


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("is_known", [True, False])
def test_a_long_document_is_cut_to_the_positions_there_are(
    save: Callable[..., Path], kind: str, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(kind, LONG[kind])
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 10**30}))  # it states no limit
    if not is_known:  # as a type that came after this version
        monkeypatch.setattr("rerank.tokens.POSITIONS_BEHIND_PADDING", frozenset())
        monkeypatch.setattr("rerank_crossencoder.scorer.knows_positions", lambda config: False)
    with Reranker(folder, backend="cross-encoder", device="cpu") as reranker:
        ranked = reranker.rank(QUERY, ["bees " * 3000, "bees"])
        assert ranked.diagnostics["truncated"] == 1
        limit = reranker.scorer.limits.longest  # type: ignore[attr-defined]
        assert limit == min(160, longest_row(folder))
        with pytest.raises(InvalidOptionsError, match=f"beyond the {limit} tokens"):
            reranker.score(QUERY, "bees", max_length=limit + 1)


def test_a_row_that_fails_names_its_document_and_fails_alone(checkpoint: Any) -> None:
    with Reranker(checkpoint("bert"), device="cpu") as reranker:
        device = reranker.scorer.runner._run  # type: ignore[attr-defined]
        forward = device.forward
        (bad,) = reranker.scorer.tokens(["a nightmare"])  # type: ignore[attr-defined]

        def fail(batch: Any) -> Any:
            for row in batch.ids.tolist():
                if any(row[at : at + len(bad)] == bad for at in range(len(row))):
                    raise ValueError("not this one")
            return forward(batch)

        device.forward = fail
        assert len(reranker.rank(QUERY, DOCUMENTS)) == len(DOCUMENTS)
        documents = [{"id": str(n), "text": text} for n, text in enumerate([*DOCUMENTS, "it is a nightmare", "x"])]
        with pytest.raises(ScoringError, match=f"document '{len(DOCUMENTS)}' of the query 'how do.*not this one"):
            reranker.rank(QUERY, documents)


def test_a_model_that_draws_random_numbers_is_refused(save: Callable[..., Path]) -> None:
    config = {
        "hidden_size": 32,
        "num_attention_heads": 2,
        "attention_head_size": 16,
        "attn_layers": ["lsh", "lsh"],
        "feed_forward_size": 48,
        "axial_pos_embds": False,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 4,
        "max_position_embeddings": 160,
        "is_decoder": False,
    }
    with pytest.raises(ModelLoadError, match=r"draws random numbers.*hash_seed"):
        Reranker(save("Reformer", config), backend="cross-encoder", device="cpu")


def test_the_layout_of_xlnet_is_refused(tmp_path: Path) -> None:
    """Its class token stands last, in a segment of its own."""
    tokenizer = train()
    tokenizer.add_special_tokens(["<sep>", "<cls>"])
    marks = [(token, tokenizer.token_to_id(token)) for token in ("<sep>", "<cls>")]
    tokenizer.post_processor = processors.TemplateProcessing("$A <sep> <cls>:2", "$A <sep> $B:1 <sep>:1 <cls>:2", marks)
    config = transformers.XLNetConfig(
        vocab_size=tokenizer.get_vocab_size(), d_model=32, n_layer=2, n_head=4, d_inner=48, num_labels=1
    )
    transformers.XLNetForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="more than two segments, as XLNet's does"):
        Reranker(tmp_path, backend="cross-encoder", device="cpu")
