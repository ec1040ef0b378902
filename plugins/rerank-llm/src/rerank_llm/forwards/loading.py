"""Language models through `rerank_torch.loading`, with an adapter or quantised where the options say so."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any, Final

import transformers

from rerank import InvalidOptionsError, ModelLoadError, ModelRef
from rerank_llm.options import LoadingOptions
from rerank_torch.loading import load_config, load_model

_ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")


def load_language_model(kind: str, model: ModelRef, options: LoadingOptions, device: str) -> Any:
    """A language model with its head, on its device and ready to run.

    Of a model that also reads images (Qwen3-VL), the part that reads text is kept.

    Args:
        kind: The class of transformers that loads it, such as ``AutoModelForCausalLM``.
        model: Where the checkpoint is.
        options: Besides what `rerank_torch.loading.load_model` reads, ``quantization`` and ``peft_path``.
        device: A torch device's name.

    Raises:
        ModelLoadError: As for `rerank_torch.loading.load_model`, or the adapter does not fit.
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
    return network if options.peft_path is None else _with_adapter(network, options.peft_path, model)


def _quantized(how: str) -> Any:
    try:
        import_module("bitsandbytes")
    except ImportError as error:
        raise InvalidOptionsError(
            f"quantization={how!r} needs bitsandbytes: pip install bitsandbytes, or leave it out"
        ) from error
    kind: Any = transformers.BitsAndBytesConfig
    return kind(load_in_4bit=how == "4bit", load_in_8bit=how == "8bit")


def _with_adapter(network: Any, path: str, model: ModelRef) -> Any:
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise InvalidOptionsError("peft_path needs peft: pip install peft, or leave it out") from error
    adapter = replace(model, name=path, alias=None, revision=None)
    if not adapter.files >= {*_ADAPTER_FILES}:
        raise ModelLoadError(
            f"the adapter {path!r} lacks one of {', '.join(_ADAPTER_FILES)}: save it with peft's save_pretrained"
        )
    folders = [adapter.fetch(file).parent for file in _ADAPTER_FILES]
    try:
        return peft.PeftModel.from_pretrained(network, str(folders[0])).merge_and_unload().eval()
    except Exception as error:
        raise ModelLoadError(
            f"the adapter {path!r} cannot be added to {model.name} ({type(error).__name__}: {error}): give the adapter "
            "that was trained on this model"
        ) from error
