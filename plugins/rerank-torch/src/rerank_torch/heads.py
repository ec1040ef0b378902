"""Heads in module folders of a checkpoint, on top of a network of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from rerank import ModelLoadError, ModelRef
from rerank_torch.loading import load_model, load_weights
from rerank_torch.modules import Module
from rerank_torch.options import TorchOptions

_POOLED: Final = "sentence_embedding"
"""The name that sentence-transformers gives the vector passed from module to module."""

_OLD_POOLING: Final = {  # before sentence-transformers 5.4
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}


class ModulesNetwork(nn.Module):
    """A network of transformers without a head, a pooling of its token vectors, and the modules that follow.

    Its call, output and configuration are those of a sequence classifier of transformers.

    Args:
        base_model: Takes token ids and returns token vectors.
        pooling: One of `POOLINGS`.
        head: From pooled vectors ``(rows, width)`` to ``(rows, outputs)``.
        outputs: How many numbers the head returns per row.
    """

    def __init__(self, base_model: Any, pooling: str, head: nn.Module, outputs: int) -> None:
        super().__init__()
        self.base_model, self.pooling, self.head = base_model, pooling, head
        self.config = base_model.config
        self.config.num_labels = outputs

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **inputs: Any
    ) -> SequenceClassifierOutput:
        """``input_ids``: (rows, tokens), padded on the right → ``logits``: (rows, outputs)."""
        hidden = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        pooled = POOLINGS[self.pooling](hidden, mask)  # (rows, tokens, width) → (rows, width)
        return SequenceClassifierOutput(logits=self.head(pooled))


def _pool_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask[..., None].float()  # (rows, tokens, 1)
    return ((hidden * weights).sum(dim=1) / weights.sum(dim=1)).to(hidden.dtype)  # (rows, width)


def _pool_max(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(mask[..., None] == 0, float("-inf")).amax(dim=1)  # (rows, width)


def _pool_last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]  # (rows, width)


POOLINGS: Final[Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "cls": lambda hidden, mask: hidden[:, 0],
    "mean": _pool_mean,
    "max": _pool_max,
    "lasttoken": _pool_last,
}
"""From token vectors ``(rows, tokens, width)`` and their mask ``(rows, tokens)`` to one vector ``(rows, width)`` each."""


def load_modules(model: ModelRef, modules: Sequence[Module], options: TorchOptions, device: str) -> ModulesNetwork:
    """A checkpoint of a Transformer, a Pooling, and any Dense and LayerNorm modules, on its device and ready to run.

    Args:
        model: Where the checkpoint is.
        modules: What `rerank_torch.modules.read_modules` found in it.
        options: As for `rerank_torch.loading.load_model`.
        device: A torch device's name.

    Raises:
        ModelLoadError: A module's kind or configuration is not supported, or weights are missing.
    """
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or modules[0].path:
        raise ModelLoadError(
            f"{model.name} runs {' → '.join(kinds)}: only a Transformer in the checkpoint's own folder followed by "
            "a Pooling is supported; load it with sentence-transformers"
        )
    base = load_model("AutoModel", model, options, device, unread=("pooler.",))
    head = nn.Sequential(*(build_module(model, module) for module in modules[2:])).to(device, base.dtype)
    outputs = int(modules[-1].config.get("out_features", base.config.hidden_size))
    return ModulesNetwork(base, _read_pooling(model, modules[1]), head, outputs).eval()


def _read_pooling(model: ModelRef, module: Module) -> str:
    """The one pooling that a module states, by the key of today or by the flags of before."""
    stated = module.config.get("pooling_mode")
    flags = [key for key, on in module.config.items() if key.startswith("pooling_mode_") and on is True]
    modes = [_OLD_POOLING.get(flag, flag) for flag in flags] if stated is None else [stated]
    modes = modes[0] if len(modes) == 1 and isinstance(modes[0], list) else modes
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelLoadError(
            f"{model.name} pools by {', '.join(map(str, modes)) or 'nothing'}, and here a pooling is one of "
            f"{', '.join(POOLINGS)}: load it with sentence-transformers"
        )
    return str(modes[0])


class _Dense(nn.Module):
    def __init__(
        self, in_features: int, out_features: int, *, bias: bool, activation: nn.Module, use_residual: bool
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation = activation
        self.use_residual = use_residual
        if use_residual and in_features != out_features:
            self.residual = nn.Linear(in_features, out_features, bias=False)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(rows, in_features) → (rows, out_features)."""
        output: torch.Tensor = self.activation(self.linear(vectors))
        if not self.use_residual:
            return output
        return output + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class _LayerNorm(nn.Module):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dimension)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(rows, dimension) → (rows, dimension)."""
        output: torch.Tensor = self.norm(vectors)
        return output


def build_module(model: ModelRef, module: Module, *, reads: str = _POOLED) -> nn.Module:
    """One Dense or LayerNorm module with its weights, whose names are those of sentence-transformers.

    Args:
        model: Where the checkpoint is.
        module: One of those that `rerank_torch.modules.read_modules` found in it.
        reads: What the module is given, by sentence-transformers' name: the pooled vectors, or ``token_embeddings``.

    Raises:
        ModelLoadError: Its kind or configuration is not supported, it reads something else, or weights are missing.
    """
    config = dict(module.config)
    stated = config.pop("module_input_name", reads)
    config.pop("module_output_name", None)  # the next module reads it, or it is the result
    try:
        if stated != reads:
            raise ValueError(f"it reads {stated!r}, not {reads!r}")
        if module.kind == "Dense":
            activation = _activation(config.pop("activation_function", "torch.nn.modules.activation.Tanh"))
            options = {"bias": config.pop("bias", True), "use_residual": config.pop("use_residual", False)}
            built: nn.Module = _Dense(**config, **options, activation=activation)
        elif module.kind == "LayerNorm":
            built = _LayerNorm(**config)
        else:
            raise ValueError("it is neither Dense nor LayerNorm")
        built.float().load_state_dict(load_weights(model, module.path))  # torch's default may be 16 bits
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ModelLoadError(
            f"the module {module.kind} in {module.path!r} of {model.name} cannot be built ({error}): "
            "fetch the checkpoint again, or load it with sentence-transformers"
        ) from error
    return built


def _activation(path: str) -> nn.Module:
    """An activation of torch's own, by the path of its class."""
    found = getattr(nn, path.rpartition(".")[2], None) if path.startswith("torch.nn.") else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"its activation {path!r} is not one of torch.nn")  # noqa: TRY004 (a fault of the file)
    built: nn.Module = found()
    return built
