"""A document's vectors as bytes, and back: half precision, or 8-bit integers with a scale per vector."""

from __future__ import annotations

import struct
from itertools import accumulate, pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from rerank import ScoringError
from rerank_vectors.documents import DocumentVectors

_HEAD: Final = struct.Struct("<II")
"""The number of windows, and whether the document lost tokens. The number of vectors per window follows."""


class Packing:
    """Packs documents in one dtype.

    An entry is a head and the vectors of all windows in one array: float16, or int8 after an array of their float32
    scales. Everything is little-endian.

    Args:
        dtype: ``fp16`` or ``int8``.
        dimensions: Of every vector.
    """

    def __init__(self, dtype: Literal["fp16", "int8"], dimensions: int) -> None:
        self._dtype, self._dimensions = dtype, dimensions

    def pack(self, document: DocumentVectors, text: str) -> bytes:
        """One document's entry.

        Args:
            document: Its vectors.
            text: What errors refer to it by.

        Raises:
            ScoringError: The vectors are not finite, beyond what float16 can hold, or of another width.
        """
        for window in document.windows:
            if window.ndim != 2 or window.shape[1] != self._dimensions:
                raise ScoringError(
                    f"the model encoded the document that begins with {text[:40]!r} as an array of shape {window.shape} "
                    f"instead of (vectors, {self._dimensions}): report it to the backend's authors"
                )
        none = np.empty((0, self._dimensions), np.float16)  # for a document without windows
        vectors = np.concatenate([none, *document.windows])  # (vectors of all windows, dimensions)
        lengths = [len(window) for window in document.windows]
        head = _HEAD.pack(len(lengths), document.truncated) + struct.pack(f"<{len(lengths)}I", *lengths)
        if self._dtype == "fp16":
            with np.errstate(over="ignore"):
                halves = vectors.astype("<f2")
            self._check_finite(halves, text)
            return head + halves.tobytes()
        largest = np.abs(vectors).max(axis=1, initial=0)  # (vectors,)
        self._check_finite(largest, text)
        scales = (largest / 127).astype("<f4")
        integers = np.rint(vectors / np.where(scales == 0, 1, scales)[:, None]).clip(-127, 127).astype(np.int8)
        return b"".join([head, scales.tobytes(), integers.tobytes()])

    def _check_finite(self, values: NDArray[Any], text: str) -> None:
        if not np.isfinite(values).all():
            beyond = ", or too large for fp16" if self._dtype == "fp16" else ""
            advice = ", or pass vectors_dtype='int8'" if self._dtype == "fp16" else ""
            raise ScoringError(
                f"vectors of the document that begins with {text[:40]!r} are not finite{beyond}, and cannot be kept: "
                f"check the model's dtype{advice}, or pass vectors=None"
            )

    def unpack(self, entry: bytes | memoryview) -> DocumentVectors:
        """The document of an entry: float16 as views of its bytes, or float32 from integers."""
        windows, truncated = _HEAD.unpack_from(entry)
        lengths = struct.unpack_from(f"<{windows}I", entry, _HEAD.size)
        start = _HEAD.size + 4 * windows
        count = sum(lengths)
        shape = (count, self._dimensions)
        if self._dtype == "fp16":
            vectors = np.ndarray(shape, "<f2", entry, start)
        else:
            scales = np.ndarray((count, 1), "<f4", entry, start)
            vectors = np.ndarray(shape, np.int8, entry, start + scales.nbytes) * scales
            vectors.flags.writeable = False
        ends = accumulate(lengths, initial=0)
        return DocumentVectors(tuple(vectors[begin:end] for begin, end in pairwise(ends)), bool(truncated))
