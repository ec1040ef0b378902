"""A local hub for the snippets, with a small checkpoint of the same kind under each name that they use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hub_server import Hub

NAMES = ("BAAI/bge-reranker-v2-m3",)
TOKENIZER = Path(__file__).parents[2] / "plugins" / "rerank-nano" / "src" / "rerank_nano" / "model" / "tokenizer.json"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a one-layer BERT cross-encoder with untrained weights."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizerFast", "model_max_length": 512, "pad_token": "[PAD]"})
    )
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def published(hub: Hub, checkpoint: dict[str, bytes]) -> Hub:
    """The hub with every name that the documentation loads."""
    for name in NAMES:
        hub.add(name, checkpoint)
    return hub
