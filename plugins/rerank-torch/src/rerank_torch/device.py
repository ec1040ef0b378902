"""Where a model runs and in which numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

from rerank import InvalidOptionsError
from rerank_torch.options import TorchOptions

OUT_OF_MEMORY: Final[tuple[type[BaseException], ...]] = (
    getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError),  # its name before torch 2.5
    MemoryError,
)
"""The exceptions that mean so, for `rerank.map_batches`; on a CPU they need `memory_errors_raised`."""


@contextmanager
def memory_errors_raised() -> Iterator[None]:
    """Raise ``MemoryError`` if torch's CPU allocator, which has no exception of its own, runs out of memory.

    Raises:
        MemoryError: The allocator ran out of memory.
    """
    try:
        yield
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise MemoryError(str(error)) from error
        raise


_KINDS: Final = ("cuda", "mps", "npu", "cpu")


def choose_devices(options: TorchOptions) -> tuple[str, ...]:
    """The devices to run on, at least one, each checked to exist.

    Raises:
        InvalidOptionsError: This machine or this build of torch has no such device.
    """
    asked = options.devices or ((_first_device(),) if options.device is None else (options.device,))
    for name in asked:
        _check_device(name)
    return asked


def choose_dtype(options: TorchOptions, device: str) -> Any:
    """The ``torch.dtype`` to load weights in, or ``"auto"`` for what the checkpoint was saved in."""
    if options.dtype_name is not None:
        return getattr(torch, options.dtype_name)
    return torch.float32 if torch.device(device).type == "cpu" else "auto"


def _first_device() -> str:
    return next(kind for kind in _KINDS if _count_devices(kind))


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidOptionsError(f"device {name!r} is unknown to torch: choose cuda, mps, npu or cpu") from error
    if device.type not in _KINDS:
        raise InvalidOptionsError(f"device {name!r} is not supported: choose cuda, mps, npu or cpu")
    count = _count_devices(device.type)
    if (device.index or 0) >= max(count, device.type == "cpu"):
        has = f"only {count} of its kind" if count else "none of its kind"
        raise InvalidOptionsError(
            f"device {name!r} is not available, this machine and this build of torch have {has}: choose another, "
            "or leave device out"
        )


def _count_devices(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count()
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    if kind == "npu":
        from transformers.utils.import_utils import is_torch_npu_available

        return int(torch.npu.device_count()) if is_torch_npu_available() else 0  # type: ignore[attr-defined]
    return 1
