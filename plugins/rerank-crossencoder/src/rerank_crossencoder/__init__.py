"""Sequence-classification cross-encoders on torch: the backend ``cross-encoder``."""

from importlib.metadata import version

__version__ = version("rerank-crossencoder")
