"""An onnxruntime session that takes rows of token ids."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from rerank import InvalidOptionsError, ModelLoadError, Streams, available_cores, map_batches, may_pad
from rerank_onnx.checkpoint import DamagedCheckpointError
from rerank_onnx.graph_file import last_operator
from rerank_onnx.options import OnnxOptions
from rerank_onnx.runtime import onnxruntime

logger = logging.getLogger(__name__)

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

LONGEST_FIRST_RUN: Final = 60.0
"""Seconds that a graph may take for its first row, of one token."""

_INPUTS: Final = {
    "input_ids": ("input_ids", "input"),
    "attention_mask": ("attention_mask", "input_mask", "mask"),
    "token_type_ids": ("token_type_ids", "segment_ids"),
    "position_ids": ("position_ids",),
}
"""What a text provides, and what graphs call it: transformers' names, then those of BERT's own code."""

_TYPES: Final = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}

_FRACTIONS: Final = ("tensor(float)", "tensor(float16)", "tensor(double)", "tensor(bfloat16)")
"""The types of scores and vectors; an output of whole numbers is a class."""

_PROBABILITY: Final = re.compile(r"(?<!log)(?<!log[_. -])(prob|sigmoid|softmax)", re.IGNORECASE)
"""In the name of an output of probabilities, not of their logarithms."""

_EXACT: Final = 1e-4
"""How much a value may differ with padding in float32, which sums in another order."""

_ROUNDED: Final = 2e-2
"""The same in 16 bits."""

_TOKEN_VECTORS: Final = ("last_hidden_state", "token_embeddings")
_TEXT_VECTORS: Final = ("pooler_output", "sentence_embedding")
"""Outputs of encoders besides their token vectors: one vector of a text, which is no score."""


class Graph:
    """A loaded graph.

    Args:
        file: The ``.onnx`` file.
        options: ``threads``, ``providers`` and ``session_options``.
        pad_id: The id that fills short rows.
        first_position: The position of a row's first token, if the graph is given positions.

    Attributes:
        output: What it returns that is a score per row, else a vector per token.
        gives_probabilities: Whether that is called so, or a sigmoid or softmax makes it.
        rows: How many rows it takes at once; None for any number.
        length: How many tokens each row must have; None for any number.

    Raises:
        DamagedCheckpointError: The file cannot be read as a graph.
        ModelLoadError: The graph needs an input that a text does not provide, takes no rows of token ids, returns only
            whole numbers, or does not end.
        InvalidOptionsError: An execution provider or session option does not exist.
    """

    def __init__(self, file: Path, options: OnnxOptions, pad_id: int, first_position: int = 0) -> None:
        session_options = _session_options(options)
        providers = _providers(options)
        try:
            self.session = onnxruntime.InferenceSession(str(file), session_options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no narrower type
            raise DamagedCheckpointError(
                f"{file} cannot be read as a graph by onnxruntime {onnxruntime.__version__} ({error}): fetch it again, "
                "upgrade onnxruntime, or check session_options"
            ) from error
        self.inputs: dict[str, tuple[str, type[np.generic]]] = {}
        unknown = []
        for own in self.session.get_inputs():
            meaning, dtype = _meaning(own.name), _TYPES.get(own.type)
            if meaning is None or dtype is None:
                unknown.append(own.name)
            else:
                self.inputs[own.name] = meaning, dtype
        if unknown:
            raise ModelLoadError(
                f"{file} needs the inputs {', '.join(sorted(unknown))}, but a text provides {', '.join(_INPUTS)} as numbers: "
                "export it for sequence classification or feature extraction"
            )
        self.output = _choose_output(file, self.session.get_outputs())
        self.gives_probabilities = bool(_PROBABILITY.search(self.output.name)) or (
            last_operator(file, self.output.name) in ("Sigmoid", "Softmax")
        )
        self.rows, self.length = _fixed_sizes(file, self.session.get_inputs())
        self.pad_id, self.first_position = pad_id, first_position
        self.pads = True
        threads = min(options.threads or available_cores(), available_cores())
        self._runs: set[onnxruntime.RunOptions] = set()  # those under way
        self._streams = Streams(threads, interrupt=self._interrupt) if _has_streams(options) else None
        self._check_ends(file)

    def _check_ends(self, file: Path) -> None:
        """Run one token, in a thread, so that Ctrl-C and `LONGEST_FIRST_RUN` end a graph that loops without end.

        Raises:
            ModelLoadError: It took longer.
        """
        ended = threading.Event()

        def run() -> None:
            with suppress(Exception):  # what the graph cannot run, its probes report
                self._run([[self.pad_id]] * (self.rows or 1), [[0]] * (self.rows or 1))
            ended.set()

        threading.Thread(target=run, name="rerank load", daemon=True).start()
        try:
            if ended.wait(LONGEST_FIRST_RUN):
                return
        finally:
            self._interrupt()
            ended.wait()
        raise ModelLoadError(
            f"{file} did not end within {LONGEST_FIRST_RUN:g} s for a row of one token: it may loop without end; do not use "
            "it, or choose faster providers"
        )

    def _interrupt(self) -> None:
        """End the runs under way with an error."""
        for run in tuple(self._runs):
            run.terminate = True

    def width(self) -> int:
        """How many numbers an encoder returns per token; a graph that leaves that free is run once."""
        declared = self.output.shape[-1]
        return declared if isinstance(declared, int) else int(self([[self.pad_id]], [[0]]).shape[-1])

    def probe(self, rows: Sequence[tuple[int, ...]], type_ids: Callable[[tuple[int, ...]], list[int]]) -> None:
        """Find out whether rows of different lengths may share a batch.

        A graph that computes other values for rows of equal length as well, such as one that quantises a whole batch with
        one scale, gains nothing from sharing less, and goes on.

        Args:
            rows: A short and a long one.
            type_ids: Takes a row and returns its segment ids.
        """
        if self.length is not None or len(rows) == 1:  # every row is filled anyway, or the tokenizer knows no word
            return
        near = _ROUNDED if self.output.type in ("tensor(float16)", "tensor(bfloat16)") else _EXACT

        def run(batch: list[tuple[int, ...]]) -> list[Array]:
            output = self(batch, [type_ids(row) for row in batch])
            return [values[: len(row)] if output.ndim == 3 else values for values, row in zip(output, batch)]

        def are_near(a: Array, b: Array) -> bool:
            return bool(np.allclose(a, b, rtol=near, atol=near))

        self.pads = may_pad(rows, run, are_near, length=len)
        if not self.pads:
            short, long = rows
            alike = [short, long[: len(short)]]
            try:
                self.pads = not all(are_near(a, run([row])[0]) for a, row in zip(run(alike), alike))
            except Exception as error:  # rows alone are what it reads
                logger.info("two rows of equal length cannot share a batch either (%s)", error)

    def reads(self, row: tuple[int, ...], type_ids: list[int]) -> bool:
        """Whether the graph runs on a row of this length."""
        try:
            self([row], [type_ids])
        except MemoryError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no narrower type
            logger.info("the graph fails on a row of %d tokens: %s", len(row), error)
            return False
        return True

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
        if self.length is not None:
            lengths = [self.length] * len(items)
        if self.rows is None:
            max_tokens, max_items = options.max_batch_tokens or default, options.batch_size
        else:  # it computes as many rows at once anyway
            max_tokens, max_items = self.rows * max(lengths, default=1), self.rows
        return map_batches(
            items,
            lengths,
            forward,
            max_tokens=max_tokens,
            max_items=max_items,
            pads=self.pads,
            out_of_memory=(MemoryError,),
            progress=options.progress,
            streams=self._streams,
        )

    def close(self) -> None:
        """End the streams."""
        if self._streams is not None:
            self._streams.close()

    def __call__(self, rows: Sequence[Sequence[int]], type_ids: Sequence[Sequence[int]]) -> Array:
        """Run rows of token ids, padded on the right to the longest, and to what the graph fixes.

        Args:
            rows: Token ids of each row.
            type_ids: Segment ids of each row.

        Returns:
            The graph's output as float32: ``(rows, width)`` of a classifier, ``(rows, tokens, dimensions)`` of an encoder.

        Raises:
            MemoryError: onnxruntime could not allocate what the batch needs.
        """
        if self.rows is None:
            return self._run(rows, type_ids)
        parts = []
        for start in range(0, len(rows), self.rows):
            part, types = list(rows[start : start + self.rows]), list(type_ids[start : start + self.rows])
            missing = self.rows - len(part)  # filled with copies of the last row, whose results are dropped
            parts.append(self._run(part + part[-1:] * missing, types + types[-1:] * missing)[: len(part)])
        width = max(part.shape[1] for part in parts) if parts[0].ndim == 3 else 0
        same = [np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0))) if width else part for part in parts]
        return np.concatenate(same)

    def _run(self, rows: Sequence[Sequence[int]], type_ids: Sequence[Sequence[int]]) -> Array:
        lengths = np.array([len(row) for row in rows])
        places = np.arange(self.length or lengths.max())
        mask = places < lengths[:, None]  # (rows, tokens)

        def padded(values: Sequence[Sequence[int]], fill: int) -> Array:
            array = np.full(mask.shape, fill)
            array[mask] = np.fromiter(chain.from_iterable(values), np.int64, lengths.sum())
            return array

        given = {
            "input_ids": padded(rows, self.pad_id),
            "attention_mask": mask,
            "token_type_ids": padded(type_ids, 0),
            "position_ids": np.where(mask, places + self.first_position, max(0, self.first_position - 1)),
        }
        feed = {name: given[meaning].astype(dtype) for name, (meaning, dtype) in self.inputs.items()}
        run = onnxruntime.RunOptions()
        self._runs.add(run)
        try:
            (output,) = self.session.run([self.output.name], feed, run)
        except Exception as error:
            if "allocat" in str(error).lower():
                raise MemoryError(str(error)) from error
            raise
        finally:
            self._runs.discard(run)
        return np.asarray(output, dtype=np.float32)


def _meaning(name: str) -> str | None:
    """Which of a text's inputs a graph's input is; None if it is none."""
    return next((meaning for meaning, names in _INPUTS.items() if name in names), None)


def _choose_output(file: Path, outputs: Sequence[Any]) -> Any:
    """The output that is a score per row if there is one, else the one with a vector per token, else the first."""
    fractions = [output for output in outputs if output.type in _FRACTIONS]
    if not fractions:
        found = ", ".join(f"{output.name} as {output.type}" for output in outputs)
        raise ModelLoadError(
            f"{file} returns {found}: the class of a row is no score; export the model with its logits, as floats"
        )
    logits = [output for output in fractions if output.name == "logits"]
    scores = [
        output
        for output in fractions
        if len(output.shape) in (1, 2)
        and output.name not in _TEXT_VECTORS
        and (len(output.shape) == 1 or not isinstance(output.shape[1], int) or output.shape[1] in (1, 2))
    ]
    vectors = [output for output in fractions if output.name in _TOKEN_VECTORS]
    return (logits or scores or vectors or fractions)[0]


def _fixed_sizes(file: Path, inputs: Sequence[Any]) -> tuple[int | None, int | None]:
    """How many rows and tokens a graph is exported for, where it fixes them."""
    ids = next((own for own in inputs if _meaning(own.name) == "input_ids"), None)
    if ids is None or len(ids.shape) != 2:
        found = "no token ids" if ids is None else f"{ids.name} of shape {ids.shape}"
        raise ModelLoadError(
            f"{file} takes {found}: export the model so that it takes input_ids of shape (rows, tokens)"
        )
    rows, length = (size if isinstance(size, int) and size > 0 else None for size in ids.shape)
    return rows, length


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
