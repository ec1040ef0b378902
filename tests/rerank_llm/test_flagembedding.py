"""The same folders through FlagEmbedding's own rerankers; `nox -s flagembedding` installs it with an older transformers."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from language_models import save_causal, save_spm_tokenizer, vocabulary

MODELS = "FlagEmbedding.inference.reranker.decoder_only.models"
NEEDS: dict[str, Any] = {"reason": "needs FlagEmbedding: nox -s flagembedding", "exc_type": ImportError}
minicpm_code = pytest.importorskip(f"{MODELS}.modeling_minicpm_reranker", **NEEDS)
gemma_code = pytest.importorskip(f"{MODELS}.gemma_model", **NEEDS)

from FlagEmbedding import FlagLLMReranker, LayerWiseFlagLLMReranker, LightWeightFlagLLMReranker  # noqa: E402

from rerank import Reranker  # noqa: E402
from rerank.testing.contract import DOCUMENTS, QUERY  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")
torch.set_num_threads(1)  # models this small only wait for each other's threads

TEXTS = [*DOCUMENTS, "", "A nurse bee feeds larvae. " * 12, "Shares rose when the bank cut its rate. " * 20]
LONG_QUERY = "Which bees feed the larvae with royal jelly, and which carry pollen on their hind legs? " * 4
CALLS: list[tuple[str, dict[str, int]]] = [
    (QUERY, {"max_length": 512}),
    (QUERY, {"max_length": 48}),  # cuts the passage at max_length, since the query is shorter than the task
    (LONG_QUERY, {"max_length": 96}),  # cuts the query at three quarters, and the passage at the end of the row
    (LONG_QUERY, {"max_length": 200, "query_max_length": 12}),
]
LAYERS, START = 5, 2
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "start_layer": START,
}


def change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")


# gemma


@pytest.mark.parametrize("bos", ["<|im_start|>", "<|endoftext|>", None], ids=["bos", "bos is pad", "no bos"])
def test_gemma(tmp_path: Path, bos: str | None) -> None:
    folder = save_causal(tmp_path, "gemma")
    change(folder / "tokenizer_config.json", padding_side="left", bos_token=bos)
    theirs = FlagLLMReranker(str(folder), devices="cpu")
    with Reranker(folder, backend="llm-pointwise", recipe="bge-gemma") as reranker:
        for query, lengths in CALLS:
            expected = theirs.compute_score([(query, text) for text in TEXTS], **lengths)
            ranked = sorted(reranker.rank(query, TEXTS, **lengths), key=lambda result: result.index or 0)
            assert [result.score for result in ranked] == pytest.approx(expected, abs=1e-4)


# models with a head per layer


def save_layered(folder: Path, network: Any, **own: Any) -> Path:
    """A model of one of FlagEmbedding's classes with random weights, its code beside it as where it is published."""
    folder.mkdir(parents=True, exist_ok=True)
    save_spm_tokenizer(folder, ["<pad>", "<s>", "</s>", "<unk>"], "<pad>", "</s>", "<s>")
    torch.manual_seed(0)
    config = network.config_class(**{**SHAPE, **own, "vocab_size": vocabulary(folder)})
    network(config).eval().save_pretrained(folder)
    auto_map = {}
    for auto, published in (("AutoConfig", network.config_class), ("AutoModelForCausalLM", network)):
        source = Path(str(sys.modules[published.__module__].__file__))
        shutil.copy(source, folder)
        auto_map[auto] = f"{source.stem}.{published.__name__}"
    change(folder / "config.json", auto_map=auto_map)
    return folder


def compare(reranker: Reranker, theirs: Any, cutoffs: Sequence[int], **options: Any) -> None:
    """Each layer's scores are FlagEmbedding's, for every query and length."""
    for query, lengths in CALLS:
        asked = {"cutoff_layers": cutoffs, **options, **lengths}
        found = theirs.compute_score([(query, text) for text in TEXTS], **asked)
        ranked = sorted(reranker.rank(query, TEXTS, **asked), key=lambda result: result.index or 0)
        for layer, expected in zip(cutoffs, [found] if len(cutoffs) == 1 else found):
            values = [result.details["layers"][str(layer)] for result in ranked]
            assert values == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def minicpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_layered(
        tmp_path_factory.mktemp("minicpm"),
        minicpm_code.LayerWiseMiniCPMForCausalLM,
        scale_emb=12,
        scale_depth=1.4,
        dim_model_base=16,
        rms_norm_eps=1e-5,
    )


@pytest.mark.parametrize("cutoffs", [[5], [2], [2, 3, 5]])
def test_layerwise(minicpm: Path, cutoffs: list[int]) -> None:
    theirs = LayerWiseFlagLLMReranker(str(minicpm), devices="cpu")
    with Reranker(minicpm, recipe="bge-layerwise") as reranker:
        assert reranker.backend == "llm-layerwise"
        compare(reranker, theirs, cutoffs)


@pytest.fixture(scope="module")
def gemma2(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float | None], Path]:
    """Builds a Gemma 2 with this cap of attention, or none."""

    def build(cap: float | None) -> Path:
        return save_layered(
            tmp_path_factory.mktemp("gemma2"),
            gemma_code.CostWiseGemmaForCausalLM,
            layer_wise=True,
            layer_sep=1,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=16,
            attn_logit_softcapping=cap,
            final_logit_softcapping=4.0,
        )

    return build


def load_lightweight(folder: Path) -> LightWeightFlagLLMReranker:
    """FlagEmbedding's reranker, with what layers are given since transformers 4.48, for which it is not written."""
    theirs = LightWeightFlagLLMReranker(str(folder), devices="cpu")
    rotary = gemma_code.Gemma2RotaryEmbedding(config=theirs.model.config)

    def add_rotary(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "position_embeddings": rotary(args[0], kwargs["position_ids"])}

    for layer in theirs.model.model.layers:
        layer.register_forward_pre_hook(add_rotary, with_kwargs=True)
    return theirs


@pytest.mark.parametrize(
    ("layers", "ratio", "cutoffs"),
    [([2], 1, [5]), ([2], 2, [3]), ([1, 3], 4, [3, 5]), ([0, 2], 8, [3, 5]), ([4], 64, [2, 5])],
)
def test_lightweight(gemma2: Callable[[float | None], Path], layers: list[int], ratio: int, cutoffs: list[int]) -> None:
    folder = gemma2(None)
    theirs = load_lightweight(folder)
    with Reranker(folder, recipe="bge-lightweight") as reranker:
        assert reranker.backend == "llm-lightweight"
        compare(reranker, theirs, cutoffs, compress_layers=layers, compress_ratio=ratio)


def test_lightweight_with_a_cap_of_attention(gemma2: Callable[[float | None], Path]) -> None:
    """FlagEmbedding lets transformers choose sdpa, which leaves out the cap; with eager attention it has the cap too."""
    folder = gemma2(5.0)
    theirs = load_lightweight(folder)
    assert theirs.model.config._attn_implementation == "sdpa"
    theirs.model.config._attn_implementation = "eager"
    with Reranker(folder, recipe="bge-lightweight") as reranker:
        compare(reranker, theirs, [3, 5], compress_layers=[2], compress_ratio=2)
