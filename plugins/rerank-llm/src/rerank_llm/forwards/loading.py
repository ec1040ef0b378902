"""Language models through `rerank_torch.loading`, quantised where the options say so."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import transformers

from rerank import InvalidOptionsError, ModelRef
from rerank_llm.options import LoadingOptions
from rerank_torch.loading import load_config, load_model


def load_language_model(kind: str, model: ModelRef, options: LoadingOptions, device: str) -> Any:
    """A language model with its head, on its device and ready to run.

    Of a model that also reads images (Qwen3-VL), the part that reads text is kept.

    Args:
        kind: The class of transformers that loads it, such as ``AutoModelForCausalLM``.
        model: Where the checkpoint is.
        options: Besides what `rerank_torch.loading.load_model` reads, ``quantization``.
        device: A torch device's name.

    Raises:
        ModelLoadError: As for `rerank_torch.loading.load_model`.
        InvalidOptionsError: What an option needs is not installed.
    """
    if options.quantization is not None:
        kwargs = {"device_map": {"": device}, "quantization_config": _quantized(options.quantization)}
        kwargs |= options.model_kwargs
        options = options.model_copy(update={"model_kwargs": kwargs})
    if options.attn_implementation is None and getattr(load_config(model, options), "attn_logit_softcapping", None):
        options = options.model_copy(update={"attn_implementation": "eager"})  # sdpa would leave out the cap
    reads_images = kind == "AutoModelForCausalLM" and "vision_config" in model.config
    network = load_model("AutoModelForImageTextToText" if reads_images else kind, model, options, device)
    if reads_images and hasattr(network.model, "visual"):
        network.model.visual = None
    return network


def _quantized(how: str) -> Any:
    try:
        import_module("bitsandbytes")
    except ImportError as error:
        raise InvalidOptionsError(
            f"quantization={how!r} needs bitsandbytes: pip install bitsandbytes, or leave it out"
        ) from error
    kind: Any = transformers.BitsAndBytesConfig
    return kind(load_in_4bit=how == "4bit", load_in_8bit=how == "8bit")
