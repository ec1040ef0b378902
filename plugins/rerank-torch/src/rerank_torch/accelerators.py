"""What torch can run on beside a CPU, for ``rerank doctor``; torch is imported when asked."""

from __future__ import annotations

from collections.abc import Mapping


def find_accelerators() -> Mapping[str, str]:
    """The accelerators that torch finds on this machine, by device name."""
    import torch

    found = {}
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory / 2**30
        found[f"cuda:{number}"] = f"{torch.cuda.get_device_name(number)}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple's GPU"
    return found
