"""onnxruntime, imported so that it calls nobody: newer releases, such as 1.32, report their use unless told not to."""

from __future__ import annotations

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # is read at the import; its threads also outlive a fork badly

import onnxruntime

__all__ = ["onnxruntime"]
