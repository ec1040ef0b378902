"""What a user may set, and the names that need no files to be known; imported without anything heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import Field

from rerank import Options, Reload

FLASHRANK: Final = (
    "ms-marco-TinyBERT-L-2-v2",
    "ms-marco-MiniLM-L-12-v2",
    "ms-marco-MultiBERT-L-12",
    "rank-T5-flan",
    "ce-esci-MiniLM-L12-v2",
    "miniReranker_arabic_v1",
)
"""FlashRank's models (0.2.10): zip archives in the hub repository ``prithivida/flashrank``."""


class OnnxOptions(Options):
    """Options of the backend ``onnx``, beside core's own.

    Args:
        max_length: Tokens that a row may have, special tokens included; None is the model's own limit, at most 1,024 (for late
            interaction the checkpoint's own ``document_tokens``).
        query_max_length: Tokens that a query may have, special tokens left out; None is three quarters of ``max_length`` (for
            late interaction what the checkpoint's own ``query_tokens`` leave).
        file_name: Which graph of the checkpoint, such as ``onnx/model_quint8_avx2.onnx``.
        quantized: Prefer a quantised graph where the checkpoint has one.
        threads: At most this many CPU threads for the model; None is one per core that this process may use.
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
