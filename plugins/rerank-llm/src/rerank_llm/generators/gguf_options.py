"""The options of the generator ``gguf``; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field, field_validator

from rerank import Options, Reload

_OWN: Final = {
    "model_path": "the model",
    "n_ctx": "context_size",
    "n_gpu_layers": "gpu_layers",
    "n_threads": "threads",
    "n_threads_batch": "threads",
}
"""Arguments of llama-cpp-python, and what sets them here."""


class GgufOptions(Options):
    """Options of the generator ``gguf``, besides core's own.

    Args:
        gguf_file: Which GGUF file of a folder or repository, such as ``zephyr-7b-beta.Q4_K_M.gguf``; of a model in several
            parts any one. None takes the only one.
        gpu_layers: How many of the model's layers run on a GPU, where llama-cpp-python is built for one; -1 is all. The
            default, 0, runs on the CPU.
        context_size: How many tokens prompt and answer may have together. None is as many as the model was trained with, but
            at most 8,192: a 7B model like Zephyr keeps 128 KiB for each, and so takes 1 GiB besides its weights.
        threads: At most this many CPU threads; None is one per core that this process may use.
        chat_template_kwargs: Further arguments of the file's chat template, such as ``enable_thinking``.
        model_kwargs: Further arguments of ``llama_cpp.Llama``, such as ``flash_attn``, ``tensor_split`` and ``lora_path``.
    """

    gguf_file: Reload[str | None] = None
    gpu_layers: Reload[int] = Field(default=0, ge=-1)
    context_size: Reload[int | None] = Field(default=None, ge=64)
    threads: Reload[int | None] = Field(default=None, ge=1)
    chat_template_kwargs: Reload[Mapping[str, Any]] = Field(default_factory=dict)
    model_kwargs: Reload[Mapping[str, Any]] = Field(default_factory=dict)

    @field_validator("model_kwargs")
    @classmethod
    def _leave_what_options_set(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if taken := next((name for name in value if name in _OWN), None):
            raise ValueError(f"it must not contain {taken}: give {_OWN[taken]}")
        return value
