"""Rows of token ids, and one batch of them as padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Row:
    """What a model reads at once, such as a query with a document or with a window of it.

    Args:
        ids: Token ids, special tokens included.
        first_len: How many of them, from the start, belong to the first segment.
        room: How many tokens the model may write after them.
        unattended: How many of them, at the end, no token attends to (ColBERT's query augmentation).
    """

    ids: tuple[int, ...]
    first_len: int = 0
    room: int = 0
    unattended: int = 0


@dataclass(frozen=True, slots=True)
class Padding:
    """How short rows are filled.

    Args:
        pad_id: The token that fills them.
        side: The side that is filled; decoders whose last token is read need the left.
        probe: Rows of different lengths, which show at load whether filling them changes their values: then only rows of
            equal length share a batch. Empty if it is known that it does not.
    """

    pad_id: int
    side: Literal["right", "left"] = "right"
    probe: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one forward pass.

    Args:
        ids: ``(rows, tokens)`` token ids, padded.
        lengths: Token count per row, padding left out.
        mask: ``(rows, tokens)`` 1 for tokens that are attended to; None if all are, since a mask of ones would only keep
            attention off its fast path.
        in_first: ``(rows, tokens)`` whether a token belongs to the first segment.
        room: How many tokens may be written after each row.
        shared: What the scorer gave the runner for all rows of the call; None if nothing.
    """

    ids: torch.Tensor
    lengths: tuple[int, ...]
    mask: torch.Tensor | None
    in_first: torch.Tensor
    room: tuple[int, ...]
    shared: Any = None


def pad(rows: Sequence[Row], padding: Padding, device: torch.device, shared: Any = None) -> Batch:
    """Rows as one batch on a device, padded to the longest of them; ``shared`` is passed on."""
    lengths = np.array([len(row.ids) for row in rows])  # (rows,)
    longest = int(lengths.max())
    starts = longest - lengths if padding.side == "left" else np.zeros_like(lengths)  # (rows,)
    places = np.arange(longest) - starts[:, None]  # (rows, tokens), from 0 at the first real token
    real = (places >= 0) & (places < lengths[:, None])  # (rows, tokens)
    ids = np.full(real.shape, padding.pad_id, dtype=np.int64)  # (rows, tokens)
    ids[real] = np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64, lengths.sum())
    attended = real & (places < (lengths - np.array([row.unattended for row in rows]))[:, None])  # (rows, tokens)
    in_first = places < np.array([row.first_len for row in rows])[:, None]  # (rows, tokens)

    def on_device(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> torch.Tensor:
        return torch.from_numpy(array).to(device)

    return Batch(
        ids=on_device(ids),
        lengths=tuple(lengths.tolist()),
        mask=None if attended.all() else on_device(attended.astype(np.int64)),
        in_first=on_device(in_first),
        room=tuple(row.room for row in rows),
        shared=shared,
    )
