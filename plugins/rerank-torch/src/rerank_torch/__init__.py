"""What the torch plugins share; it registers no backend.

`options`, `pool`, `modules` and `accelerators` import without torch, so that a plugin can describe itself in
milliseconds. The rest is imported when a model loads: `device` and `loading` read a checkpoint, `tokens` its tokenizer,
`heads` what lies in module folders, and `rows` and `runner` run it.
"""

from rerank_torch.accelerators import find_accelerators
from rerank_torch.options import TorchOptions
from rerank_torch.pool import DevicePool

__all__ = ["DevicePool", "TorchOptions", "find_accelerators"]
