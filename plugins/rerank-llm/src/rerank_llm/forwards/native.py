"""Networks with a head per layer, built here from transformers' own blocks, so that no code of a checkpoint runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Final, TypeVar

import torch
import transformers
from torch import nn

from rerank import InvalidOptionsError, ModelLoadError, ModelRef
from rerank_llm.options import LlmOptions
from rerank_torch.device import choose_dtype
from rerank_torch.loading import iterate_weights

N = TypeVar("N", bound=nn.Module)

_HEAD: Final = ("lm_head.", ".linear_head.weight")


class LayeredNetwork(nn.Module):
    """A decoder of transformers, run layer by layer, with one linear head per cutoff.

    Args:
        decoder: The decoder: ``embed_tokens``, ``layers``, ``norm`` and ``rotary_emb`` are used.
        heads: How many heads there are.
        scale: What token embeddings are multiplied by.
    """

    def __init__(self, decoder: Any, heads: int, scale: float) -> None:
        super().__init__()
        self.decoder, self.config, self.scale = decoder, decoder.config, scale
        width = decoder.config.hidden_size
        self._by_cache_position = "cache_position" in signature(decoder.layers[0].forward).parameters
        self.heads = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(heads))

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens) → (rows, tokens, width)."""
        hidden = nn.functional.embedding(ids, self.decoder.embed_tokens.weight)
        return hidden * torch.tensor(self.scale, dtype=hidden.dtype, device=hidden.device)

    def rotate(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rotary embeddings of positions from 0."""
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]  # (1, tokens)
        cos, sin = self.decoder.rotary_emb(hidden, positions)
        return cos, sin

    def run_layer(
        self,
        number: int,
        hidden: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One layer, counted from 0: (rows, tokens, width) → the same."""
        places = torch.arange(hidden.shape[1], device=hidden.device)  # (tokens,)
        output = self.decoder.layers[number](
            hidden,
            attention_mask=mask,
            position_ids=places[None],
            position_embeddings=rotary,
            **({"cache_position": places} if self._by_cache_position else {}),
        )
        result: torch.Tensor = output[0] if isinstance(output, tuple) else output  # a tuple in transformers 4
        return result

    def score(self, hidden: torch.Tensor, head: int) -> torch.Tensor:
        """Vectors at the last positions ``(rows, width)`` → ``(rows,)``.

        Raises:
            InvalidOptionsError: There is no such head.
        """
        if head >= len(self.heads):
            raise InvalidOptionsError(
                f"the checkpoint has {len(self.heads)} heads, and head {head + 1} is asked for: give fewer cutoff_layers"
            )
        values: torch.Tensor = self.heads[head](self.decoder.norm(hidden))
        return values[:, 0].float()


def load_layered(
    model: ModelRef, options: LlmOptions, device: str, decoder_class: type[Any], config: Any, scale: float
) -> LayeredNetwork:
    """A network with the weights of a checkpoint in FlagEmbedding's layout.

    Args:
        model: Where the checkpoint is; its heads are ``lm_head.0.linear_head.weight`` and so on.
        options: ``dtype`` is read.
        device: A torch device's name.
        decoder_class: The class of transformers that has the decoder's blocks.
        config: Its configuration.
        scale: What token embeddings are multiplied by.

    Raises:
        ModelLoadError: Weights are missing, of another shape or damaged.
    """
    heads = 0

    def rename(name: str) -> str:
        nonlocal heads
        before, after = _HEAD
        if name.startswith(before) and name.endswith(after):
            heads += 1
            return f"heads.{name.removeprefix(before).removesuffix(after)}.weight"
        return f"decoder.{name.removeprefix('model.')}" if name.startswith("model.") else name

    def build() -> LayeredNetwork:
        if not heads:
            raise ModelLoadError(f"{model.name} has no {'0'.join(_HEAD)}: give a reranker with a head per layer")
        network = LayeredNetwork(decoder_class(config), heads, scale)
        network.decoder.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        return network

    network = load_native(model, options, device, build, rename)
    network.decoder.rotary_emb = type(network.decoder.rotary_emb)(config=config).to(device)
    return network


def load_native(
    model: ModelRef,
    options: LlmOptions,
    device: str,
    build: Callable[[], N],
    rename: Callable[[str], str] = lambda name: name,
) -> N:
    """A network of our own with the weights of a checkpoint, on its device and ready to run.

    Args:
        model: Where the checkpoint is.
        options: ``dtype`` is read.
        device: A torch device's name.
        build: Builds the network, without memory for its weights; called after all names are read. Buffers that no
            checkpoint has, such as those of rotary embeddings, must be made anew.
        rename: From a tensor's name in the checkpoint to its name in the network.

    Raises:
        ModelLoadError: Weights are missing, of another shape or damaged.
        InvalidOptionsError: An option has no effect on such a network.
    """
    for name in ("peft_path", "quantization", "attn_implementation", "model_kwargs"):
        if getattr(options, name):
            raise InvalidOptionsError(
                f"{model.name} is built here, from transformers' own blocks, so {name} has no effect: leave it out"
            )
    dtype = choose_dtype(options, device)
    tensors = {
        rename(name): tensor if dtype == "auto" else tensor.to(dtype)
        for part in iterate_weights(model)
        for name, tensor in part.items()
        if not name.endswith("rotary_emb.inv_freq")
    }
    with torch.device("meta"):
        network = build()
    return assign(tensors, network, model, device)


def assign(tensors: Mapping[str, torch.Tensor], network: N, model: ModelRef, device: str) -> N:
    """Give a network without memory its weights, and make it ready to run on its device.

    Args:
        tensors: By their names in the network.
        network: The network.
        model: The model, for errors.
        device: A torch device's name.

    Raises:
        ModelLoadError: Weights are missing, unknown or of another shape.
    """
    try:
        missing, unread = network.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise ModelLoadError(f"{model.name} does not fit its config.json ({error}): fetch it again") from error
    if missing or unread:
        raise ModelLoadError(
            f"{model.name} lacks {len(missing)} tensors and has {len(unread)} unknown ones, "
            f"{(missing or unread)[0]!r} among them: fetch it again"
        )
    for parameter in network.parameters():
        parameter.data = parameter.data.to(device)
    return network.requires_grad_(False).eval()


def granite_config(raw: Mapping[str, Any]) -> Any:
    """MiniCPM's configuration as Granite's, whose blocks have the same multipliers.

    MiniCPM multiplies both residual branches by ``scale_depth / sqrt(num_hidden_layers)``; Granite's
    ``attention_multiplier`` is the softmax scale itself.

    Raises:
        ModelLoadError: It asks for what these blocks do not compute.
    """
    if raw.get("rope_scaling") or raw.get("head_type", "simple") != "simple":
        raise ModelLoadError(
            "config.json has rope_scaling or another head_type than 'simple', which no published layerwise reranker has: "
            "give one of those"
        )
    heads, layers = int(raw["num_attention_heads"]), int(raw["num_hidden_layers"])
    kind: Any = transformers.GraniteConfig
    return kind(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=raw.get("num_key_value_heads") or heads,
        max_position_embeddings=raw.get("max_position_embeddings", 2048),
        rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
        hidden_act=raw.get("hidden_act", "silu"),
        rope_theta=raw.get("rope_theta", 10_000.0),
        embedding_multiplier=1.0,
        residual_multiplier=raw.get("scale_depth", 1.0) / math.sqrt(layers),
        attention_multiplier=(raw["hidden_size"] // heads) ** -0.5,
        pad_token_id=None,
        attn_implementation="sdpa",
    )
