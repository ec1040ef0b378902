"""Layerwise and lightweight models equal a plain computation written out here, on checkpoints in the published layout."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from language_models import save_chat_tokenizer, vocabulary
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from rerank import InvalidOptionsError, ModelLoadError, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst
from rerank_llm.forwards.lightweight import compress

TEXTS = [*DOCUMENTS, "", "A nurse bee feeds larvae. " * 12]
TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
LIGHT_TASK = "Predict whether passage B contains an answer to query A."
LAYERS, START = 5, 2
MINICPM = {
    "architectures": ["LayerWiseMiniCPMForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_minicpm_reranker.LayerWiseMiniCPMForCausalLM"},
    "model_type": "minicpm",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 16,
    "start_layer": START,
    "head_multi": True,
    "head_type": "simple",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def scores(ranked: Any) -> list[float]:
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


def layers_of(ranked: Any) -> list[Mapping[int, float]]:
    ordered = sorted(ranked, key=lambda result: result.index)
    return [{int(layer): score for layer, score in result.details["layers"].items()} for result in ordered]


def write_heads(tensors: dict[str, torch.Tensor], count: int) -> None:
    for n in range(count):
        tensors[f"lm_head.{n}.linear_head.weight"] = torch.randn(1, 32) * 0.3


def encode(folder: Path, query: str, document: str, task: str) -> tuple[list[int], int, int]:
    """Token ids of a row; how many of them stand before the passage, and how many behind it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    q, sep, p, t = (
        tokenizer.encode(text, add_special_tokens=False).ids for text in (f"A: {query}", "\n", f"B: {document}", task)
    )
    before, after = [1, *q, *sep], [*sep, *t]
    return [*before, *p, *after], len(before), len(after)


# layerwise


@pytest.fixture(scope="module")
def minicpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minicpm")
    save_chat_tokenizer(folder)
    torch.manual_seed(0)
    config = {**MINICPM, "vocab_size": vocabulary(folder)}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    llama = transformers.LlamaConfig(
        **{key: value for key, value in config.items() if key not in ("model_type", "auto_map", "architectures")},
        initializer_range=0.2,
    )
    tensors = {f"model.{name}": tensor for name, tensor in transformers.LlamaModel(llama).state_dict().items()}
    write_heads(tensors, LAYERS - START + 1)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: tensors[name].contiguous() for name in own}, folder / shard)
    index = {"weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight


def rotate(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions for (heads, tokens, width)."""
    width = x.shape[-1]
    angle = torch.arange(x.shape[1])[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)  # (tokens, width / 2)
    cos, sin = (torch.cat([f, f], dim=-1) for f in (angle.cos(), angle.sin()))
    turned = torch.cat([-x[..., width // 2 :], x[..., : width // 2]], dim=-1)
    return x * cos + turned * sin


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(heads, tokens, width) each → (tokens, heads × width)."""
    weights = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    tokens = q.shape[1]
    weights = weights.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), float("-inf")).softmax(dim=-1)
    return (weights @ v).transpose(0, 1).reshape(tokens, -1)


def plain_minicpm(folder: Path, ids: list[int]) -> dict[int, float]:
    """MiniCPM with its multipliers, one row, from the tensors alone: the score after each layer with a head."""
    w = read_tensors(folder)
    h = w["model.embed_tokens.weight"][ids] * 12
    branch = 1.4 / math.sqrt(LAYERS)
    found = {}
    for k in range(LAYERS + 1):
        if k >= START:
            found[k] = float(norm(h[-1], w["model.norm.weight"]) @ w[f"lm_head.{k - START}.linear_head.weight"][0])
        if k == LAYERS:
            break
        own = {name.split(f"layers.{k}.")[1]: tensor for name, tensor in w.items() if f"layers.{k}." in name}
        x = norm(h, own["input_layernorm.weight"])
        q = (x @ own["self_attn.q_proj.weight"].T).view(len(ids), 4, 8).transpose(0, 1)
        k_, v = (
            (x @ own[f"self_attn.{n}_proj.weight"].T).view(len(ids), 2, 8).transpose(0, 1).repeat_interleave(2, dim=0)
            for n in "kv"
        )
        h = h + attend(rotate(q), rotate(k_), v) @ own["self_attn.o_proj.weight"].T * branch
        x = norm(h, own["post_attention_layernorm.weight"])
        gated = torch.nn.functional.silu(x @ own["mlp.gate_proj.weight"].T) * (x @ own["mlp.up_proj.weight"].T)
        h = h + gated @ own["mlp.down_proj.weight"].T * branch
    return found


def test_layerwise_scores_are_those_of_the_plain_computation(minicpm: Path) -> None:
    with Reranker(minicpm) as reranker:
        assert reranker.backend == "llm-layerwise"
        ranked = reranker.rank(QUERY, TEXTS, cutoff_layers=[5, 2, 3])
        last = scores(reranker.rank(QUERY, TEXTS))
    for text, found in zip(TEXTS, layers_of(ranked)):
        expected = plain_minicpm(minicpm, encode(minicpm, QUERY, text, TASK)[0])
        assert dict(found) == pytest.approx({k: expected[k] for k in (2, 3, 5)}, abs=1e-4)
    assert scores(ranked) == pytest.approx(last, abs=1e-5)
    assert scores(ranked) == [layers[5] for layers in layers_of(ranked)]


def test_computation_stops_at_the_last_cutoff(minicpm: Path) -> None:
    with Reranker(minicpm, threads=1) as reranker:
        called = []
        for n, layer in enumerate(reranker.scorer.runner.forward.network.decoder.layers):
            layer.register_forward_hook(lambda *_, n=n: called.append(n))
        reranker.score(QUERY, DOCUMENTS[0], cutoff_layers=3)
    assert called == [0, 1, 2]


def test_several_cutoffs_in_one_call(minicpm: Path) -> None:
    pairs = [(QUERY, text) for text in DOCUMENTS]
    with Reranker(minicpm) as reranker:
        both = reranker.score_pairs(pairs, cutoff_layers=[4, 2])
        assert list(both) == [2, 4]
        for layer in (2, 4):
            assert both[layer] == pytest.approx(reranker.score_pairs(pairs, cutoff_layers=layer), abs=1e-5)
            assert reranker.score_pairs(pairs, cutoff_layers=[layer])[layer] == pytest.approx(both[layer], abs=1e-5)
        assert isinstance(reranker.score_pairs(pairs), list)
        assert reranker.score_pairs([], cutoff_layers=[4, 2]) == {2: [], 4: []}
    with Reranker(minicpm, cutoff_layers=[4, 2]) as reranker:
        assert reranker.score_pairs(pairs) == pytest.approx(both[4], abs=1e-5)


@pytest.mark.parametrize("cutoff", [1, 6, -1])
def test_a_cutoff_without_a_head(minicpm: Path, cutoff: int) -> None:
    with (
        Reranker(minicpm) as reranker,
        pytest.raises(InvalidOptionsError, match=f"cutoff_layers has {cutoff}, .* heads after the layers 2, 3, 4, 5"),
    ):
        reranker.rank(QUERY, DOCUMENTS, cutoff_layers=[3, cutoff])


def test_weights_that_are_missing(minicpm: Path, tmp_path: Path) -> None:
    for file in minicpm.iterdir():
        if file.suffix == ".json" and "index" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = read_tensors(minicpm)
    tensors.pop("model.layers.3.mlp.up_proj.weight")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"lacks 1 tensors .*layers.3.mlp.up_proj.weight"):
        Reranker(tmp_path)


# lightweight


BLOCKS = {
    "cost_wise_gemma": (transformers.Gemma2Config, transformers.Gemma2Model, math.sqrt(32)),
    "cost_wise_mistral": (transformers.MistralConfig, transformers.MistralModel, 1.0),
}
"""By model type: configuration, decoder, and what embeddings are multiplied by."""


def save_lightweight(folder: Path, heads: int, model_type: str = "cost_wise_gemma", **own: Any) -> Path:
    save_chat_tokenizer(folder)
    torch.manual_seed(0)
    configuration, decoder, _ = BLOCKS[model_type]
    config = configuration(
        vocab_size=vocabulary(folder),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=12,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
        max_position_embeddings=2048,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    tensors = {f"model.{name}": tensor for name, tensor in decoder(config).state_dict().items()}
    write_heads(tensors, heads)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    raw = {
        **config.to_dict(),
        "architectures": ["CostWiseGemmaForCausalLM"],
        "model_type": model_type,
        "start_layer": START,
        "layer_sep": 1,
        **own,
    }
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_lightweight(tmp_path_factory.mktemp("gemma"), LAYERS - START + 1)


def plain_compress(h: torch.Tensor, query_len: int, task_len: int, ratio: int) -> torch.Tensor:
    """(tokens, width) with the passage's vectors in groups, each replaced by its mean."""
    passage = h[query_len : len(h) - task_len]
    groups = [passage[n : n + ratio].mean(dim=0) for n in range(0, len(passage), ratio)]
    return torch.stack([*h[:query_len], *groups, *h[len(h) - task_len :]])


@torch.no_grad()
def plain_lightweight(
    folder: Path, row: tuple[list[int], int, int], layers: tuple[int, ...], ratio: int
) -> dict[int, float]:
    """One row through transformers' own blocks, each as a model of one layer: the state after each layer with a head."""
    ids, query_len, task_len = row
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model_type = raw["model_type"]
    raw = {k: v for k, v in raw.items() if k not in ("model_type", "architectures", "start_layer", "layer_sep")}
    configuration, decoder, scale = BLOCKS[model_type]
    config = configuration(**raw, attn_implementation="eager")
    model = decoder(config).eval()
    w = read_tensors(folder)
    model.load_state_dict({name.removeprefix("model."): t for name, t in w.items() if name.startswith("model.")})
    whole, final = list(model.layers), model.norm
    h = w["model.embed_tokens.weight"][ids] * scale
    found = {}
    for k in range(LAYERS + 1):
        if k >= START:
            value = float(final(h[-1]) @ w[f"lm_head.{k - START}.linear_head.weight"][0])
            found[k] = 4 * math.tanh(value / 4)
        if k == LAYERS:
            break
        if ratio > 1 and k in layers and k != 0:
            h = plain_compress(h, query_len, task_len, ratio)
        h = run_one(model, whole[k], h, windowed=k % 2 == 0 or "mistral" in model_type)
    return found


def run_one(model: Any, layer: Any, h: torch.Tensor, *, windowed: bool) -> torch.Tensor:
    tokens = len(h)
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = (distance >= 0) & ((distance < 12) if windowed else True)
    mask = torch.zeros(1, 1, tokens, tokens).masked_fill(~seen, torch.finfo(torch.float32).min)
    positions = torch.arange(tokens)[None]
    output = layer(
        h[None],
        attention_mask=mask,
        position_ids=positions,
        position_embeddings=model.rotary_emb(h[None], positions),
    )
    return (output[0] if isinstance(output, tuple) else output)[0]


@pytest.fixture(scope="module")
def mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Matryoshka reranker."""
    return save_lightweight(tmp_path_factory.mktemp("mistral"), LAYERS - START + 1, "cost_wise_mistral")


@pytest.mark.parametrize("family", ["gemma", "mistral"])
@pytest.mark.parametrize(("layers", "ratio"), [((2,), 1), ((2,), 2), ((1, 3), 3), ((3,), 64), ((0, 2), 2)])
def test_lightweight_scores_are_those_of_the_plain_computation(
    request: pytest.FixtureRequest, family: str, layers: tuple[int, ...], ratio: int
) -> None:
    gemma = request.getfixturevalue(family)
    with Reranker(gemma, recipe="bge-lightweight", backend="llm-lightweight", head_index="layer") as reranker:
        assert reranker.backend == "llm-lightweight"
        ranked = reranker.rank(QUERY, TEXTS, cutoff_layers=[5, 3], compress_layers=layers, compress_ratio=ratio)
    for text, found in zip(TEXTS, layers_of(ranked)):
        expected = plain_lightweight(gemma, encode(gemma, QUERY, text, LIGHT_TASK), layers, ratio)
        assert dict(found) == pytest.approx({k: expected[k] for k in (3, 5)}, abs=1e-4)


def test_heads_are_counted_among_the_cutoffs_or_the_layers(gemma: Path) -> None:
    """FlagEmbedding takes the first head for the first cutoff that is asked for, whichever layer it is."""
    ids = encode(gemma, QUERY, DOCUMENTS[0], LIGHT_TASK)
    expected = plain_lightweight(gemma, ids, (), 1)
    with Reranker(gemma) as reranker:
        found = reranker.score(QUERY, DOCUMENTS[0], cutoff_layers=4)
        first = reranker.score(QUERY, DOCUMENTS[0], cutoff_layers=2)
    assert first == pytest.approx(expected[2], abs=1e-4)
    with Reranker(gemma, head_index="layer") as reranker:
        by_layer = reranker.score(QUERY, DOCUMENTS[0], cutoff_layers=4)
    assert by_layer == pytest.approx(expected[4], abs=1e-4)
    assert found != pytest.approx(by_layer, abs=1e-3)


@pytest.mark.parametrize("ratio", [1, 2, 3, 7])
def test_compression_is_that_of_a_slow_obvious_loop(ratio: int) -> None:
    torch.manual_seed(1)
    lens, query_lens, task_len = [9, 14, 6, 20], torch.tensor([2, 5, 3, 1]), 3
    hidden = torch.randn(4, max(lens), 8)
    mask = torch.arange(max(lens)) < torch.tensor(lens)[:, None]
    means, kept = compress(hidden, mask.long(), query_lens, task_len, ratio)
    for n, length in enumerate(lens):
        expected = plain_compress(hidden[n, :length], int(query_lens[n]), task_len, ratio)
        assert int(kept[n].sum()) == len(expected)
        torch.testing.assert_close(means[n, : len(expected)], expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compress_layers": [9], "compress_ratio": 2}, "compress_layers has 9, .* before the layers 1 to 4"),
        ({"compress_layers": [4], "compress_ratio": 2, "cutoff_layers": [3]}, "compress_ratio=2 has no effect"),
        ({"compress_layers": [], "compress_ratio": 2}, "compress_ratio=2 has no effect"),
        ({"compress_layers": [0], "compress_ratio": 2}, "compress_ratio=2 has no effect"),
        ({"compress_layers": [2]}, "compress_layers has no effect without compress_ratio"),
    ],
)
def test_compression_without_effect(gemma: Path, options: dict[str, Any], message: str) -> None:
    with Reranker(gemma) as reranker, pytest.raises(InvalidOptionsError, match=message):
        reranker.score(QUERY, DOCUMENTS[0], **options)


@pytest.mark.parametrize(
    "option",
    [{"peft_path": "x"}, {"quantization": "4bit"}, {"attn_implementation": "sdpa"}, {"model_kwargs": {"a": 1}}],
)
def test_an_option_without_effect(minicpm: Path, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionsError, match=f"{next(iter(option))} has no effect: leave it out"):
        Reranker(minicpm, **option)


def test_compression_in_half_precision_does_not_overflow() -> None:
    hidden = torch.full((1, 10, 4), 3e4, dtype=torch.float16)
    means, _ = compress(hidden, torch.ones(1, 10, dtype=torch.long), torch.tensor([1]), 1, 8)
    torch.testing.assert_close(means, torch.full((1, 3, 4), 3e4, dtype=torch.float16))


@pytest.mark.parametrize("own", [{"rope_scaling": {"type": "linear", "factor": 8}}, {"head_type": "complex"}])
def test_a_layerwise_model_that_computes_otherwise(minicpm: Path, tmp_path: Path, own: dict[str, Any]) -> None:
    folder = tmp_path / "model"
    shutil.copytree(minicpm, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **own}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="rope_scaling or another head_type"):
        Reranker(folder)


def test_a_model_of_another_kind(gemma: Path, tmp_path: Path) -> None:
    for file in gemma.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "cost_wise_llama"}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="'cost_wise_llama': give a lightweight reranker on Gemma 2 or Mistral"):
        Reranker(tmp_path)


class TestLayerwiseContract(BackendContract):
    @pytest.fixture
    def reranker(self, minicpm: Path) -> Any:
        plain = [plain_minicpm(minicpm, encode(minicpm, QUERY, text, TASK)[0]) for text in DOCUMENTS]
        self.better = best_and_worst(QUERY, DOCUMENTS, [by_layer[LAYERS] for by_layer in plain])
        with Reranker(minicpm) as reranker:
            yield reranker


class TestLightweightContract(BackendContract):
    @pytest.fixture
    def reranker(self, gemma: Path) -> Any:
        rows = [encode(gemma, QUERY, text, LIGHT_TASK) for text in DOCUMENTS]
        plain = [plain_lightweight(gemma, row, (2,), 2) for row in rows]
        self.better = best_and_worst(QUERY, DOCUMENTS, [by_layer[LAYERS] for by_layer in plain])
        with Reranker(gemma, compress_layers=[2], compress_ratio=2) as reranker:
            yield reranker
