"""Qwen3 with a projector, which reads a query and many documents at once (jina-reranker-v3 and v3.5).

Built here from transformers' own Qwen3, so that no code of a checkpoint runs, and no logits over the vocabulary exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rerank import InvalidOptionsError, ModelLoadError, ModelRef
from rerank_llm.forwards.native import assign
from rerank_torch.device import choose_dtype
from rerank_torch.loading import iterate_weights
from rerank_torch.options import TorchOptions
from rerank_torch.rows import Batch

PROJECTOR_FILE: Final = "projector.safetensors"
"""Where exports for mlx keep the projector."""

_PROJECTOR: Final = {"linear1.weight": "projector.0.weight", "linear2.weight": "projector.2.weight"}
"""Other names of the projector's tensors, and ours."""

_UNREAD: Final = ("lm_head.",)
_OWN_KEYS: Final = frozenset(
    ("architectures", "auto_map", "dtype", "model_type", "torch_dtype", "transformers_version")
)
_FULL, _SLIDING = "full_attention", "sliding_attention"
_WINDOWED: Final = "rerank_windowed"
_UPGRADE: Final = "upgrade it (pip install -U transformers)"
_TINY: Final = 1e-8


class JinaNetwork(nn.Module):
    """Qwen3 without its output matrix, and the projector.

    Args:
        config: Qwen3's configuration.
        middle: Width between the projector's two matrices.
        width: Width of the vectors that are compared.
    """

    def __init__(self, config: Any, middle: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.model: Any = transformers.Qwen3Model(config)
        self.projector = nn.Sequential(
            nn.Linear(config.hidden_size, middle, bias=False), nn.ReLU(), nn.Linear(middle, width, bias=False)
        )

    @property
    def projector_dtype(self) -> torch.dtype:
        """The projector's number format, which may be another than the decoder's."""
        return next(self.projector.parameters()).dtype


class JinaForward:
    """The model on one device.

    Rows are padded on the right: no real token attends to a pad under a causal mask, so that none is needed.

    Args:
        device: A torch device's name.
        model: Where the checkpoint is.
        options: How to load it.
        embed_id: The token after each document.
        rerank_id: The token after the query; where there are several, the last one is read.

    Raises:
        ModelLoadError: Weights are missing, of another shape or damaged, or this transformers cannot run the model.
        InvalidOptionsError: An option has no effect on such a model.
    """

    def __init__(self, device: str, *, model: ModelRef, options: TorchOptions, embed_id: int, rerank_id: int) -> None:
        self.network = load_network(model, options, device)
        self._embed_id, self._rerank_id = embed_id, rerank_id
        slides = _SLIDING in self.network.config.layer_types
        self._masks = (
            {_FULL: None, _SLIDING: None} if slides else None
        )  # transformers makes none; attend_in_window does

    def __call__(self, batch: Batch) -> Sequence[torch.Tensor]:
        """Per row ``(1 + documents, width)``: the query's vector, then the documents' vectors in order."""
        masks: Any = self._masks
        hidden = self.network.model(input_ids=batch.ids, attention_mask=masks, use_cache=False).last_hidden_state
        ends = batch.ids == self._embed_id  # (rows, tokens)
        places = torch.arange(batch.ids.shape[1], device=batch.ids.device)  # (tokens,)
        last = torch.where(batch.ids == self._rerank_id, places, -1).amax(dim=1)  # (rows,)
        rows = torch.arange(len(batch.ids), device=batch.ids.device)  # (rows,)
        queries = self._project(hidden[rows, last])  # (rows, width)
        documents = torch.split(self._project(hidden[ends]), ends.sum(dim=1).tolist())  # per row (documents, width)
        return [torch.cat([query[None], own]) for query, own in zip(queries, documents)]

    def _project(self, hidden: torch.Tensor) -> torch.Tensor:
        """``(tokens, hidden)`` → ``(tokens, width)`` in float32."""
        projected: torch.Tensor = self.network.projector(hidden.to(self.network.projector_dtype))
        return projected.float()


def score_blocks(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The cosine of each document with the query.

    Every block has a query vector of its own; they are averaged, each with a weight of ``max (1 + cos) / 2`` over its documents.

    Args:
        blocks: Per block ``(1 + documents, width)``: the query's vector, then the documents'.

    Returns:
        ``(documents,)`` of all blocks, in order.
    """
    queries = np.stack([block[0] for block in blocks])  # (blocks, width)
    weights = np.array([(1 + _cosines(block[0], block[1:]).max()) / 2 for block in blocks])  # (blocks,)
    query = queries[0] if len(blocks) == 1 else weights @ queries / max(weights.sum(), _TINY)  # (width,)
    return _cosines(query.astype(np.float32), np.concatenate([block[1:] for block in blocks]))


def _cosines(query: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(width,)`` and ``(documents, width)`` → ``(documents,)``."""
    norms = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)  # (documents,)
    cosines: NDArray[np.float32] = documents @ query / np.maximum(norms, np.float32(_TINY))
    return cosines


def load_network(model: ModelRef, options: TorchOptions, device: str) -> JinaNetwork:
    """The network with a checkpoint's weights, on its device and ready to run.

    Args:
        model: Where the checkpoint is; its weights are ``model.…``, and ``projector.0.weight`` and ``projector.2.weight``
            or, in ``projector.safetensors``, ``linear1.weight`` and ``linear2.weight``.
        options: ``dtype`` is read.
        device: A torch device's name.

    Raises:
        ModelLoadError: Weights are missing, of another shape or damaged, or this transformers cannot run the model.
        InvalidOptionsError: An option has no effect on such a model.
    """
    for name in ("attn_implementation", "model_kwargs"):
        if getattr(options, name):
            raise InvalidOptionsError(f"{model.name} is built here, from transformers' own Qwen3: leave {name} out")
    if model.config.get("quantization") or model.config.get("quantization_config"):
        raise ModelLoadError(
            f"{model.name} has quantised weights, which are read by another library: give the unquantised checkpoint"
        )
    config, windows = read_config(model)
    tensors = dict(_iterate_tensors(model))
    first, second = (_matrix(model, tensors, name) for name in ("projector.0.weight", "projector.2.weight"))
    if first.shape[1] != config.hidden_size or second.shape[1] != first.shape[0]:
        raise ModelLoadError(
            f"the projector of {model.name} has the shapes {tuple(first.shape)} and {tuple(second.shape)}, which do not "
            f"follow a hidden size of {config.hidden_size}: fetch the checkpoint again"
        )
    dtype = choose_dtype(options, device)
    if dtype != "auto":
        tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    with torch.device("meta"):
        network = JinaNetwork(config, first.shape[0], second.shape[0])
    if [layer.self_attn.sliding_window for layer in network.model.layers] != windows:
        raise ModelLoadError(_ignored(model))
    network.model.rotary_emb = type(network.model.rotary_emb)(config=config).to(device)
    return assign(tensors, network, model, device)


def _iterate_tensors(model: ModelRef) -> Iterator[tuple[str, torch.Tensor]]:
    """The checkpoint's tensors by their names here, without the output matrix."""
    parts: list[Mapping[str, torch.Tensor]] = []
    if PROJECTOR_FILE in model.files:
        try:
            parts.append(load_file(model.fetch(PROJECTOR_FILE)))
        except SafetensorError as error:
            raise ModelLoadError(
                f"{PROJECTOR_FILE} of {model.name} is damaged ({error}): fetch the checkpoint again"
            ) from error
    for part in (*parts, *iterate_weights(model)):
        for name, tensor in part.items():
            if not name.startswith(_UNREAD) and not name.endswith("rotary_emb.inv_freq"):
                yield _PROJECTOR.get(name, name), tensor


def _matrix(model: ModelRef, tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != 2:
        raise ModelLoadError(
            f"{model.name} has no matrix {name!r} of a projector: give jinaai/jina-reranker-v3, v3.5 or a checkpoint of "
            "their kind"
        )
    return tensor


def read_config(model: ModelRef) -> tuple[Any, list[int | None]]:
    """Qwen3's configuration, and how far back each layer attends; None for everything.

    transformers applies ``sliding_window`` to the layers that ``layer_types`` names since 4.53, and only if
    ``use_sliding_window`` is set; 4.51 and 4.52 know ``max_window_layers`` alone and give all layers the same mask, and
    4.51 applies the default window even where the model uses none. So all of these are set here.

    Raises:
        ModelLoadError: The configuration is incomplete, or this transformers cannot run it.
    """
    kind: Any = getattr(transformers, "Qwen3Config", None)
    if kind is None:
        raise ModelLoadError(
            f"{model.name} is a Qwen3, and transformers {transformers.__version__} has none before 4.51: {_UPGRADE}"
        )
    raw = {key: value for key, value in model.config.items() if key not in _OWN_KEYS}
    layers = raw.get("num_hidden_layers")
    if not isinstance(layers, int):
        raise ModelLoadError(f"config.json of {model.name} has no num_hidden_layers: fetch the checkpoint again")
    windows = _windows(model, raw, layers)
    slides = any(windows)
    if slides and not hasattr(kind(), "layer_types"):
        raise ModelLoadError(_ignored(model))
    if slides:
        transformers.AttentionInterface.register(_WINDOWED, attend_in_window)
    raw |= {"use_sliding_window": slides, "sliding_window": next(filter(None, windows), None)}
    raw["layer_types"] = [_FULL if window is None else _SLIDING for window in windows]
    rope = raw.get("rope_parameters")
    if isinstance(rope, Mapping) and not hasattr(kind(), "rope_parameters"):  # transformers 4
        raw["rope_theta"] = rope.get("rope_theta", 10_000.0)
        raw["rope_scaling"] = None if rope.get("rope_type", "default") == "default" else dict(rope)
        del raw["rope_parameters"]
    return kind(**raw, attn_implementation=_WINDOWED if slides else "sdpa"), windows


def _windows(model: ModelRef, raw: Mapping[str, Any], layers: int) -> list[int | None]:
    """How far back each layer attends, as the configuration says; None for everything."""
    window, kinds = raw.get("sliding_window"), raw.get("layer_types")
    if kinds is None:
        slides = bool(raw.get("use_sliding_window")) and window is not None
        full = raw.get("max_window_layers", 28) if slides else layers
        kinds = [_FULL if number < full else _SLIDING for number in range(layers)]
    if len(kinds) != layers or not {*kinds} <= {_FULL, _SLIDING}:
        raise ModelLoadError(
            f"config.json of {model.name} has layer_types {kinds!r:.80} for {layers} layers, of which only {_FULL} and "
            f"{_SLIDING} are known: fetch the checkpoint again, or upgrade rerank-llm"
        )
    if _SLIDING in kinds and not (isinstance(window, int) and window > 0):
        raise ModelLoadError(
            f"config.json of {model.name} has layers with {_SLIDING} and sliding_window {window!r}: fetch it again"
        )
    return [window if kind == _SLIDING else None for kind in kinds]


def _ignored(model: ModelRef) -> str:
    return (
        f"{model.name} has layers with sliding attention, which transformers {transformers.__version__} would run as full "
        f"attention, and so rank worse: {_UPGRADE} to 4.53 or newer"
    )


def attend_in_window(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    sliding_window: int | None = None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of whole rows, in a window or to everything, as transformers calls it.

    A window is computed in pieces of its own length, so that time and memory grow with the tokens and not with their
    square: a mask of all pairs of the 131,072 tokens that a row may have would take 17 GB.

    Args:
        module: The layer's attention.
        query: ``(rows, heads, tokens, head_width)``.
        key: ``(rows, key_heads, tokens, head_width)``.
        value: As ``key``.
        attention_mask: Not read: the callers pass none.
        sliding_window: How many tokens back a token attends to, itself included; None for all.
        settings: Passed on to transformers' ``sdpa``.

    Returns:
        ``(rows, tokens, heads, head_width)``, and no weights.
    """
    attend: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
    tokens = query.shape[2]
    size = sliding_window or tokens
    places = torch.arange(tokens, device=query.device)  # (tokens,)
    parts = []
    for start in range(0, tokens, size):
        end, first = min(start + size, tokens), max(0, start - size + 1)
        seen = None  # the first piece is plainly causal
        if start:
            back = places[start:end, None] - places[None, first:end]  # (queries, keys)
            seen = ((back >= 0) & (back < size))[None, None]  # (1, 1, queries, keys)
        keys, values = key[:, :, first:end], value[:, :, first:end]
        parts.append(attend(module, query[:, :, start:end], keys, values, seen, **settings)[0])
    return torch.cat(parts, dim=1), None
