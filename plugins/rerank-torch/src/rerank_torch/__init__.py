"""What the torch plugins share; it registers no backend.

`rerank_torch.options` and `rerank_torch.pool` import without torch, so that a plugin can describe itself in
milliseconds; `rerank_torch.device` and `rerank_torch.loading` are imported when a model loads.
"""

from rerank_torch.options import TorchOptions
from rerank_torch.pool import DevicePool

__all__ = ["DevicePool", "TorchOptions"]
