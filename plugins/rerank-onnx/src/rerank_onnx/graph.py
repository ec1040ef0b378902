"""An onnxruntime session that takes rows of token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rerank import InvalidOptionsError, ModelLoadError, Streams, available_cores, map_batches
from rerank_onnx.checkpoint import DamagedCheckpointError
from rerank_onnx.options import OnnxOptions

K = TypeVar("K")
T = TypeVar("T")
Array = NDArray[Any]

BATCH_TOKENS: Final = 256
"""Token count per batch of a stream by default, padding included.

Measured on two cores with ``benchmarks/workload.py``: one query, 100 documents, seconds, medians of 5, for the
cross-encoder of MiniLM-L6's shape and for the embedded model, quiet and beside two busy processes.

| tokens | 256 | 384 | 512 | 768 | 1024 | 1536 | 2048 | 4096 |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
| cross-encoder, quiet | 1.77 | 1.85 | 1.88 | 2.01 | 2.19 | 2.45 | 2.51 | 3.41 |
| cross-encoder, busy | 3.86 | 3.77 | 3.81 | 4.11 | 4.36 | 4.89 | 5.23 | 6.66 |
| embedded, quiet | 1.08 | 1.11 | 1.15 | 1.18 | 1.15 | 1.36 | 1.44 | 2.02 |
| embedded, busy | 2.03 | 2.20 | 2.32 | 2.38 | 2.44 | 2.55 | 2.74 | 3.31 |
"""

SPREAD_BATCH_TOKENS: Final = 1024
"""The same where onnxruntime spreads each operator over threads or another device; estimated, not measured."""

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


class Graph:
    """A loaded graph.

    Args:
        file: The ``.onnx`` file.
        options: ``threads``, ``providers`` and ``session_options``.
        pad_id: The id that fills short rows.

    Raises:
        DamagedCheckpointError: The file cannot be read as a graph.
        ModelLoadError: The graph needs an input that a text does not provide.
        InvalidOptionsError: An execution provider or session option does not exist.
    """

    def __init__(self, file: Path, options: OnnxOptions, pad_id: int) -> None:
        session_options = _session_options(options)
        providers = _providers(options)
        try:
            self.session = onnxruntime.InferenceSession(str(file), session_options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no narrower type
            raise DamagedCheckpointError(
                f"{file} cannot be read as a graph by onnxruntime {onnxruntime.__version__} ({error}): fetch it again, "
                "upgrade onnxruntime, or check session_options"
            ) from error
        self.inputs = {i.name: np.int32 if i.type == "tensor(int32)" else np.int64 for i in self.session.get_inputs()}
        if unknown := sorted(set(self.inputs) - set(_INPUTS)):
            raise ModelLoadError(
                f"{file} needs the inputs {', '.join(unknown)}, but a text provides {', '.join(_INPUTS)}: "
                "export it for sequence classification or feature extraction"
            )
        outputs = self.session.get_outputs()
        named = [output for output in outputs if output.name in ("logits", "last_hidden_state", "token_embeddings")]
        self.output = (named or outputs)[0]
        self.pad_id = pad_id
        threads = min(options.threads or available_cores(), available_cores())
        self._streams = Streams(threads) if _has_streams(options) else None

    def width(self) -> int:
        """How many numbers an encoder returns per token; a graph that leaves that free is run once."""
        declared = self.output.shape[-1]
        return declared if isinstance(declared, int) else int(self([[self.pad_id]], [[0]]).shape[-1])

    def map(
        self,
        items: Sequence[K],
        lengths: Sequence[int],
        forward: Callable[[list[K]], Sequence[T]],
        options: OnnxOptions,
    ) -> list[T]:
        """Run ``forward`` over all items in batches, in parallel streams of one thread each.

        Args:
            items: What ``forward`` takes, one per row; must be hashable.
            lengths: Token count per item.
            forward: Takes a batch and returns one result per item; calls this graph.
            options: ``batch_size``, ``max_batch_tokens`` and ``progress`` are read.

        Returns:
            One result per item, in their order.

        Raises:
            OutOfMemoryError: One item alone does not fit.
        """
        default = SPREAD_BATCH_TOKENS if self._streams is None else BATCH_TOKENS
        return map_batches(
            items,
            lengths,
            forward,
            max_tokens=options.max_batch_tokens or default,
            max_items=options.batch_size,
            out_of_memory=(MemoryError,),
            progress=options.progress,
            streams=self._streams,
        )

    def close(self) -> None:
        """End the streams."""
        if self._streams is not None:
            self._streams.close()

    def __call__(self, rows: Sequence[Sequence[int]], type_ids: Sequence[Sequence[int]]) -> Array:
        """Run rows of token ids, padded on the right to the longest.

        Args:
            rows: Token ids of each row.
            type_ids: Segment ids of each row.

        Returns:
            The graph's output as float32: ``(rows, width)`` of a classifier, ``(rows, tokens, dimensions)`` of an encoder.

        Raises:
            MemoryError: onnxruntime could not allocate what the batch needs.
        """
        lengths = np.array([len(row) for row in rows])
        positions = np.arange(lengths.max())
        mask = positions < lengths[:, None]  # (rows, tokens)

        def padded(values: Sequence[Sequence[int]], fill: int) -> Array:
            array = np.full(mask.shape, fill)
            array[mask] = np.fromiter(chain.from_iterable(values), np.int64, lengths.sum())
            return array

        given = {
            "input_ids": padded(rows, self.pad_id),
            "attention_mask": mask,
            "token_type_ids": padded(type_ids, 0),
            "position_ids": positions * mask,
        }
        feed = {name: given[name].astype(dtype) for name, dtype in self.inputs.items()}
        try:
            (output,) = self.session.run([self.output.name], feed)
        except Exception as error:
            if "allocat" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise
        return np.asarray(output, dtype=np.float32)


def _has_streams(options: OnnxOptions) -> bool:
    """Whether batches run in parallel: on a CPU, unless the user has onnxruntime spread each operator over threads."""
    names = [provider if isinstance(provider, str) else provider[0] for provider in options.providers]
    return names == ["CPUExecutionProvider"] and "intra_op_num_threads" not in options.session_options


def _session_options(options: OnnxOptions) -> onnxruntime.SessionOptions:
    session_options = onnxruntime.SessionOptions()
    attributes = {
        name for name in dir(session_options) if name[0] != "_" and not callable(getattr(session_options, name))
    }
    if _has_streams(options):
        session_options.intra_op_num_threads = 1
    elif options.threads is not None:
        session_options.intra_op_num_threads = options.threads
    for name, value in options.session_options.items():
        if "." not in name and name not in attributes:
            known = ", ".join(sorted(attributes))
            raise InvalidOptionsError(f"onnxruntime has no session option {name!r}: choose one of {known}")
        try:
            if "." in name:
                session_options.add_session_config_entry(name, str(value))
            else:
                setattr(session_options, name, value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidOptionsError(f"session option {name!r} cannot be {value!r:.80}: {error}") from error
    return session_options


def _providers(options: OnnxOptions) -> list[Any]:
    available = onnxruntime.get_available_providers()
    for provider in options.providers:
        name = provider if isinstance(provider, str) else provider[0]
        if name not in available:
            raise InvalidOptionsError(
                f"this onnxruntime has no execution provider {name!r}: choose one of {', '.join(available)}, "
                "or install an onnxruntime that has it"
            )
    return [
        provider if isinstance(provider, str) else (provider[0], dict(provider[1])) for provider in options.providers
    ]
