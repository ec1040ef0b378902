"""The last layer for the first token alone, if the head reads no other.

A BERT-like head reads the first token's vector, so the last layer needs the keys and values of every token, and
everything else of only one. For 6 layers that leaves out about an eighth of the multiplications, for 12 a sixteenth.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

logger = logging.getLogger(__name__)

_PROBE_LENGTHS: Final = (9, 5)


class FirstTokenLayer(nn.Module):
    """A BERT-like layer that returns its first token only.

    Args:
        layer: The layer of transformers, whose weights it uses.
        returns_tuple: Whether it returns a tuple, as in transformers 4; in transformers 5 it returns the tensor.
    """

    def __init__(self, layer: nn.Module, *, returns_tuple: bool) -> None:
        super().__init__()
        self.layer: Any = layer
        self.returns_tuple = returns_tuple

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """``hidden``: (rows, tokens, width) → (rows, 1, width); further arguments of the layer mean nothing here."""
        attention, first = self.layer.attention, hidden[:, :1]  # (rows, 1, width)
        mask = None if attention_mask is None else attention_mask[:, :, :1]  # (rows, 1, 1, tokens)
        context = scaled_dot_product_attention(
            self._heads(attention.self.query(first)),
            self._heads(attention.self.key(hidden)),
            self._heads(attention.self.value(hidden)),
            attn_mask=mask,
        )  # (rows, heads, 1, head_width)
        attended = attention.output(context.transpose(1, 2).flatten(2), first)  # (rows, 1, width)
        output = self.layer.output(self.layer.intermediate(attended), attended)  # (rows, 1, width)
        return (output,) if self.returns_tuple else output

    def _heads(self, vectors: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, width) → (rows, heads, tokens, head_width)."""
        heads = self.layer.attention.self.num_attention_heads
        return vectors.view(*vectors.shape[:2], heads, -1).transpose(1, 2)


def shorten_last_layer(network: Any) -> bool:
    """Replace the last layer if that changes nothing but the time.

    Only layers of transformers' own that are built like BERT's are touched, and the change stays only if, for two probe
    rows, one of them padded, the layer's first vectors in fp32 and the model's logits stay the same.

    Args:
        network: A sequence-classification model of transformers, in evaluation mode; changed in place.

    Returns:
        Whether the last layer is now a `FirstTokenLayer`.
    """
    layers = getattr(getattr(getattr(network, "base_model", None), "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not _is_like_bert(network, layers[-1]):
        return False
    layer = layers[-1]
    seen: list[Any] = []
    hook = layer.register_forward_hook(lambda module, *call: seen.append(call), with_kwargs=True)
    before = _probe(network)
    hook.remove()
    args, kwargs, output = seen[0]
    short = FirstTokenLayer(layer, returns_tuple=isinstance(output, tuple)).eval()
    layers[-1] = short
    try:
        same = _equals_whole_layer(short, args, kwargs) and torch.allclose(
            _probe(network), before, rtol=0, atol=_tolerance(network) * (1 + before.abs().max().item())
        )
    except Exception as error:  # a layer that only looks like BERT's
        logger.info("the last layer of %s is not shortened: %s", type(network).__name__, error)
        same = False
    if not same:
        layers[-1] = layer
    return same


def _is_like_bert(network: Any, layer: nn.Module) -> bool:
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output", "intermediate")
    names = {name for name, _ in layer.named_modules()}
    config = network.config
    return (
        type(network).__module__.startswith("transformers.models.")
        and names.issuperset((*parts, "output"))
        and hasattr(layer.get_submodule("attention.self"), "num_attention_heads")
        and getattr(config, "_attn_implementation", None) in ("sdpa", "eager")
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
    )


@torch.inference_mode()
def _equals_whole_layer(short: FirstTokenLayer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether it computes the whole layer's first vectors; compared in fp32, as half precision would hide a difference.

    Args:
        short: The shortened layer, in the model's own dtype.
        args: What the model calls its last layer with: hidden states (rows, tokens, width), the mask …
        kwargs: The same, by name.
    """
    exact = copy.deepcopy(short).float()
    args = [_as_fp32(value) for value in args]
    kwargs = {name: _as_fp32(value) for name, value in kwargs.items()}
    whole, first = exact.layer(*args, **kwargs), exact(*args, **kwargs)  # (rows, tokens, width), (rows, 1, width)
    if short.returns_tuple:
        whole, first = whole[0], first[0]
    return torch.allclose(first, whole[:, :1], rtol=0, atol=1e-5 * (1 + whole.abs().max().item()))


def _as_fp32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _tolerance(network: Any) -> float:
    return 1e-5 if network.dtype == torch.float32 else 3e-2


@torch.inference_mode()
def _probe(network: Any) -> torch.Tensor:
    """Logits of two rows of arbitrary tokens, the second padded."""
    longest = max(_PROBE_LENGTHS)
    ids = (torch.arange(2 * longest).view(2, -1) * 37 + 11) % (network.config.vocab_size - 4) + 4  # (2, tokens)
    mask = (torch.arange(longest) < torch.tensor(_PROBE_LENGTHS)[:, None]).long()  # (2, tokens)
    inputs = {"input_ids": ids.to(network.device), "attention_mask": mask.to(network.device)}
    logits: torch.Tensor = network(**inputs, return_dict=True).logits  # (rows, 1 or 2)
    return logits.float()
