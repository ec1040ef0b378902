"""The options of every torch backend: where a model runs, in which numbers, and how its checkpoint is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from rerank import Options, Reload

DTYPES: Final = {
    "fp32": "float32",
    "float32": "float32",
    "float": "float32",
    "fp16": "float16",
    "float16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
}
"""Names of number formats, and torch's name for each."""


class TorchOptions(Options):
    """Options of a torch backend, besides core's own.

    Args:
        max_length: Maximum token count per row, special tokens included; None means the backend's choice within the
            model's limit.
        query_max_length: Maximum token count per query; None means the backend's choice within ``max_length``.
        device: ``cuda``, ``cuda:1``, ``mps``, ``npu`` or ``cpu``; None takes the first of cuda, mps, npu and cpu that
            this machine has.
        devices: Several devices, each with a process and a copy of the model; a str is one device. The processes start
            on the first call, so a script keeps its calls below ``if __name__ == "__main__":``.
        threads: At most this many CPU threads for the model; None is what torch is set to (``OMP_NUM_THREADS``,
            ``torch.set_num_threads``), by default one per core. Never more than the cores that this process may use.
        dtype: ``fp32``, ``fp16`` or ``bf16`` (long names too): the weights load directly in it. None is fp32 on a CPU,
            and elsewhere what the checkpoint was saved in.
        use_fp16: Another way to say ``dtype="fp16"``.
        use_bf16: Another way to say ``dtype="bf16"``.
        attn_implementation: ``sdpa``, ``eager``, ``flash_attention_2`` …; None leaves it to transformers.
        peft_path: A folder or hub name with a PEFT adapter, which is merged into the model; needs ``peft``.
        trust_remote_code: Run the checkpoint's Python code; it never runs without this.
        model_kwargs: Further arguments of ``from_pretrained`` for the model.
        tokenizer_kwargs: Further arguments of ``from_pretrained`` for the tokenizer. A checkpoint's ``tokenizer.json``
            encodes the text as it stands, also with ``use_fast=False``; arguments that change how text is encoded
            (``do_lower_case``, ``add_prefix_space`` …) have transformers rebuild the tokenizer, which is an error where
            the rebuilt one differs from that file in more than they ask for.
    """

    max_length: int | None = Field(default=None, ge=8)
    query_max_length: int | None = Field(default=None, ge=1)
    device: Reload[str | None] = None
    devices: Reload[tuple[str, ...] | None] = Field(default=None, min_length=1)
    threads: Reload[int | None] = Field(default=None, ge=1)
    dtype: Reload[str | None] = None
    use_fp16: Reload[bool] = False
    use_bf16: Reload[bool] = False
    attn_implementation: Reload[str | None] = None
    peft_path: Reload[str | None] = None
    trust_remote_code: Reload[bool] = False
    model_kwargs: Reload[Mapping[str, Any]] = Field(default_factory=dict)
    tokenizer_kwargs: Reload[Mapping[str, Any]] = Field(default_factory=dict)

    @field_validator("device", mode="before")
    @classmethod
    def _name_device(cls, value: Any) -> Any:
        return value if value is None else str(value)

    @field_validator("devices", mode="before")
    @classmethod
    def _name_devices(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value and (value,)
        return tuple(str(device) for device in value)

    @field_validator("dtype", mode="before")
    @classmethod
    def _name_dtype(cls, value: Any) -> Any:
        if value is None:
            return None
        name = str(value).removeprefix("torch.").lower()
        if name not in DTYPES:
            raise ValueError(f"{value!r} is not a number format: choose fp32, fp16 or bf16")
        return DTYPES[name]

    @field_validator("model_kwargs", "tokenizer_kwargs")
    @classmethod
    def _leave_our_own(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        own = {
            "dtype": "dtype",
            "torch_dtype": "dtype",
            "trust_remote_code": "trust_remote_code",
            "revision": "revision",
        }
        if taken := next((own[name] for name in value if name in own), None):
            raise ValueError(f"it must not contain what {taken}= sets: use that option")
        return value

    @model_validator(mode="after")
    def _agree(self) -> TorchOptions:
        asked = {
            name
            for name, given in (("float16", self.use_fp16), ("bfloat16", self.use_bf16), (self.dtype, self.dtype))
            if given
        }
        if len(asked) > 1:
            raise ValueError("dtype, use_fp16 and use_bf16 contradict each other: give one of them")
        if self.device is not None and self.devices is not None:
            raise ValueError("device and devices are both given: give one of them")
        return self

    @property
    def dtype_name(self) -> str | None:
        """torch's name for the requested number format, whichever option set it."""
        if self.use_fp16:
            return "float16"
        return "bfloat16" if self.use_bf16 else self.dtype
