"""The backend's options, and the model names that it knows; imports no heavy library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from rerank import Reload
from rerank_vectors import VectorOptions

FLASHRANK: Final = (
    "ms-marco-TinyBERT-L-2-v2",
    "ms-marco-MiniLM-L-12-v2",
    "ms-marco-MultiBERT-L-12",
    "rank-T5-flan",
    "ce-esci-MiniLM-L12-v2",
    "miniReranker_arabic_v1",
)
"""FlashRank's models (0.2.10): zip archives in the hub repository ``prithivida/flashrank``."""


class OnnxOptions(VectorOptions):
    """Options of the backend ``onnx``, besides core's own; the ``vectors…`` options apply to late interaction only.

    Args:
        max_length: Maximum token count per row, special tokens included; None means the model's limit, at most 1,024
            (for late interaction the checkpoint's ``document_tokens``).
        query_max_length: Maximum token count per query, special tokens left out; None means three quarters of
            ``max_length`` (for late interaction what the checkpoint's ``query_tokens`` leave).
        file_name: Which graph of the checkpoint, such as ``onnx/model_quint8_avx2.onnx``.
        quantized: Prefer a quantised graph if the checkpoint has one.
        threads: At most this many CPU threads for the model; None means one per core that this process may use.
        providers: Execution providers in order of preference, each a name or ``(name, {option: value})``.
        session_options: Attributes of ``onnxruntime.SessionOptions``; keys with a dot are its configuration entries.
            With ``intra_op_num_threads``, onnxruntime spreads each operator over that many threads of its own, and
            batches run one after another.
    """

    max_length: int | None = Field(default=None, ge=8)
    query_max_length: int | None = Field(default=None, ge=1)
    file_name: Reload[str | None] = None
    quantized: Reload[bool] = False
    threads: Reload[int | None] = Field(default=None, ge=1)
    providers: Reload[Sequence[str | tuple[str, Mapping[str, Any]]]] = ("CPUExecutionProvider",)
    session_options: Reload[Mapping[str, Any]] = Field(default_factory=dict)
