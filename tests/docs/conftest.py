"""A local hub for the snippets, with a small checkpoint of the same kind under each name that they use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

MODELS = {
    "BAAI/bge-reranker-v2-m3": ("BertForSequenceClassification", {"num_labels": 1}),
    "Qwen/Qwen3-Reranker-0.6B": ("Qwen3ForCausalLM", {"head_dim": 16, "num_key_value_heads": 2}),
    "Qwen/Qwen3-4B-Instruct-2507": ("Qwen3ForCausalLM", {"head_dim": 16, "num_key_value_heads": 2}),
    "colbert-ir/colbertv2.0": ("BertModel", {}),
}
COLBERT = {"query_maxlen": 32, "doc_maxlen": 180, "query_token_id": "[unused0]", "doc_token_id": "[unused1]"}
TOKENIZER = Path(__file__).parents[2] / "plugins" / "rerank-nano" / "src" / "rerank_nano" / "model" / "tokenizer.json"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The files of each model, by its name: one layer with untrained weights, and a tokenizer of BERT's kind."""
    saved = {name: save(tmp_path_factory.mktemp("checkpoint"), *kind) for name, kind in MODELS.items()}
    colbert = saved["colbert-ir/colbertv2.0"]
    return {**saved, "colbert-ir/colbertv2.0": {**colbert, **as_colbert(colbert)}}


def save(folder: Path, architecture: str, own: dict[str, Any]) -> dict[str, bytes]:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    network = getattr(transformers, architecture)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    network(network.config_class(**shape, **own, vocab_size=30_522)).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizerFast", "model_max_length": 512, "pad_token": "[PAD]"})
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def as_colbert(files: dict[str, bytes]) -> dict[str, bytes]:
    """What makes a BERT a ColBERT in Stanford's layout: its name, a projection among its weights, and its recipe."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    weights = {f"bert.{name}": tensor for name, tensor in safetensors.load(files["model.safetensors"]).items()}
    weights["linear.weight"] = torch.eye(32)[:16].clone()
    config = {**json.loads(files["config.json"]), "architectures": ["HF_ColBERT"]}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors.save(weights, {"format": "pt"}),
        "artifact.metadata": json.dumps(COLBERT).encode(),
    }


@pytest.fixture
def published(hub: Hub, checkpoints: dict[str, dict[str, bytes]]) -> Hub:
    """The hub with every name that the documentation loads."""
    for name, files in checkpoints.items():
        hub.add(name, files)
    return hub
