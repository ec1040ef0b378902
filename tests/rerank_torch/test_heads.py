"""Heads from module folders: built with their own weights, or an error that names what is not supported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rerank import ModelLoadError, ModelRef
from rerank_torch.heads import build_module
from rerank_torch.modules import Module, read_modules

Build = Callable[..., tuple[ModelRef, Module]]


@pytest.fixture
def one_module(tmp_path: Path) -> Build:
    """A checkpoint with one module besides its Transformer, and that module."""

    def build(kind: str, weights: dict[str, torch.Tensor], **config: object) -> tuple[ModelRef, Module]:
        folder = tmp_path / "1_Module"
        folder.mkdir()
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        listed = [{"type": f"somewhere.{kind}", "path": path} for path in ("", folder.name)]
        (tmp_path / "modules.json").write_text(json.dumps(listed), encoding="utf-8")
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        model = ModelRef(name=str(tmp_path))
        return model, read_modules(model)[1]

    return build


def test_a_projection_of_token_vectors(one_module: Build) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    config = {"in_features": 3, "out_features": 2, "bias": False}
    model, dense = one_module(
        "Dense", {"linear.weight": weight}, **config, activation_function="torch.nn.modules.linear.Identity"
    )
    tokens = torch.randn(4, 5, 3)  # (rows, tokens, width)
    projected = build_module(model, dense, reads="token_embeddings")(tokens)
    torch.testing.assert_close(projected, torch.einsum("rtw,dw->rtd", tokens, weight))


def test_a_default_dtype_rounds_no_weights(one_module: Build) -> None:
    model, dense = one_module(
        "Dense",
        {"linear.weight": torch.full((1, 3), 0.1)},
        in_features=3,
        out_features=1,
        bias=False,
        activation_function="torch.nn.modules.linear.Identity",
    )
    torch.set_default_dtype(torch.float16)
    try:
        module = build_module(model, dense, reads="token_embeddings")
    finally:
        torch.set_default_dtype(torch.float32)
    assert [parameter.tolist() for parameter in module.parameters()] == [torch.full((1, 3), 0.1).tolist()]


def test_a_module_of_vectors_that_nobody_gives_it(one_module: Build) -> None:
    model, norm = one_module(
        "LayerNorm",
        {"norm.weight": torch.ones(3), "norm.bias": torch.zeros(3)},
        dimension=3,
        module_input_name="token_embeddings",
    )
    with pytest.raises(ModelLoadError, match="it reads 'token_embeddings', not 'sentence_embedding'"):
        build_module(model, norm)
    vectors = torch.randn(2, 3)
    expected = torch.nn.functional.layer_norm(vectors, (3,))
    torch.testing.assert_close(build_module(model, norm, reads="token_embeddings")(vectors), expected)


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        ("CNN", {}, "it is neither Dense nor LayerNorm"),
        ("Dense", {"in_features": 3, "out_features": 2, "surprise": 1}, "unexpected keyword argument 'surprise'"),
        ("Dense", {"in_features": 3, "out_features": 2, "activation_function": "os.system"}, "is not one of torch.nn"),
        ("Dense", {"in_features": 4, "out_features": 2, "bias": False}, "size mismatch"),
    ],
)
def test_a_module_that_cannot_be_built(one_module: Build, kind: str, config: dict[str, object], reason: str) -> None:
    model, module = one_module(kind, {"linear.weight": torch.ones(2, 3)}, **config)
    with pytest.raises(ModelLoadError, match=reason):
        build_module(model, module)
