"""The output matrix reduced to the rows of the verdicts: nothing of the size of the vocabulary is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def keep_verdicts(network: Any, ids: Sequence[int]) -> None:
    """Replace the network's output matrix by its rows for some tokens.

    The network's own code still computes the logits from it, so that whatever it does before and after stays: T5's
    ``d_model ** -0.5`` for tied embeddings, Gemma 2's cap, Granite's division.

    Args:
        network: A language model of transformers with its head.
        ids: Token ids, in the order of the logits that the network then returns.
    """
    head = network.get_output_embeddings()
    weight = head.weight[list(ids)].detach().clone()  # (verdicts, width)
    bias = getattr(head, "bias", None)
    rows = nn.Linear(weight.shape[1], len(ids), bias=bias is not None, device=weight.device, dtype=weight.dtype)
    rows.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        rows.bias = nn.Parameter(bias[list(ids)].detach().clone(), requires_grad=False)
    network.set_output_embeddings(rows)


def last_real(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """``(rows, tokens, …)`` padded on the right → ``(rows, …)`` at each row's last real token."""
    if mask is None:
        return values[:, -1]
    return values[torch.arange(len(values), device=values.device), mask.sum(dim=1) - 1]
