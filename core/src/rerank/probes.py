"""Rows that show at load what a model can read: whether padding changes its values, and how long a row may be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from rerank.errors import ModelLoadError
from rerank.pairs import PairLayout
from rerank.tokens import POSITIONS_BEHIND_PADDING, TokenLimits, Tokens

logger = logging.getLogger(__name__)

R = TypeVar("R")
V = TypeVar("V")

_QUERY: Final = "how do bees find flowers?"
_SHORT: Final = "They dance."
_LONG: Final = (
    "A forager dances on the comb, and the others follow her in the dark, learn how far the flowers are, and fly. " * 3
)

_POSITIONS_FROM_ZERO: Final = frozenset(
    (
        "albert",
        "bert",
        "bloom",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "ernie",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "mixtral",
        "modernbert",
        "mt5",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "t5",
        "xlnet",
    )
)
"""Model types that read as many tokens as their configuration has positions for, or any number (transformers 5.24)."""


def probe_rows(tokens: Tokens, layout: PairLayout, longest: int) -> list[tuple[tuple[int, ...], int]]:
    """A short and a long row of usual text.

    The short one has an odd number of tokens, so that a model that merges neighbours merges its last with the padding
    (CANINE, Funnel).

    Args:
        tokens: The tokenizer.
        layout: Of pairs, or of single texts.
        longest: The most tokens a row may have.

    Returns:
        Token ids of each row, and how many of them are the query's own.
    """
    query, *documents = tokens([_QUERY, _SHORT, _LONG])
    room = max(0, longest - len(layout) - len(query))
    if (len(layout) + len(query) + len(documents[0])) % 2 == 0:
        documents[0] = documents[0][:-1]
    return [(tuple(layout.row(query, document[:room])), len(query)) for document in documents]


def may_pad(
    probe: Sequence[R],
    forward: Callable[[list[R]], Sequence[V]],
    near: Callable[[V, V], bool],
    length: Callable[[R], int],
) -> bool:
    """Whether rows of different lengths have the same values in one batch as each alone.

    They do not where a model mixes all positions (FNet), convolves over the padding (ConvBERT, Nyströmformer), or has no
    token that marks padding (GPT-2).

    Args:
        probe: Rows of different lengths.
        forward: Takes a batch and returns one value per row.
        near: Whether two values differ by no more than rounding.
        length: How many tokens a row has.

    Raises:
        ModelLoadError: A row has another value each time.
    """
    if len({length(row) for row in probe}) == 1:  # a model of so few tokens that they tell nothing
        return False
    try:
        together = forward(list(probe))
    except Exception as error:  # the model decides what it raises about padding
        logger.info("rows of different lengths cannot share a batch (%s): only equal lengths do", error)
        return False
    alone = [forward([row])[0] for row in probe]
    if all(near(a, b) for a, b in zip(together, alone)):
        return True
    if not all(near(forward([row])[0], value) for row, value in zip(probe, alone)):
        raise ModelLoadError(
            "the model draws random numbers and gives the same text another value each time: fix its seed, as a Reformer's "
            "config.json does with hash_seed, or give another model"
        )
    logger.info("padding changes what this model computes: only rows of equal length share a batch")
    return False


def knows_positions(config: Mapping[str, Any]) -> bool:
    """Whether `TokenLimits.read` is right about a model without a probe, by its ``config.json``."""
    return config.get("model_type") in _POSITIONS_FROM_ZERO | POSITIONS_BEHIND_PADDING


def probe_limits(
    limits: TokenLimits, tokens: Tokens, layout: PairLayout, runs: Callable[[tuple[int, ...], int], bool]
) -> TokenLimits:
    """The limits of a model that was run on a row of the default length, and on shorter ones if it failed.

    Args:
        limits: As the checkpoint states them.
        tokens: The tokenizer.
        layout: Of pairs, or of single texts.
        runs: Takes a row's token ids and how many of them are the query's, and says whether the model reads it.

    Raises:
        ModelLoadError: It fails on short rows as well.
    """
    query, document = tokens([_QUERY, _LONG])

    def reads(length: int) -> bool:
        room = max(0, length - len(layout))
        text = (document * (room // len(document) + 1))[: max(0, room - len(query))]
        return runs(tuple(layout.row(query[:room], text)), min(room, len(query)))

    if reads(limits.default):
        return limits
    shortest, longest = len(layout) + 1, limits.default  # it reads the one, and not the other
    if not reads(shortest):
        raise ModelLoadError(
            f"the model fails on rows of {longest} tokens, which its configuration allows, and on rows of {shortest}: "
            "check that its configuration, tokenizer and weights belong together"
        )
    while longest - shortest > 1:
        middle = (shortest + longest) // 2
        shortest, longest = (middle, longest) if reads(middle) else (shortest, middle)
    logger.info("the model reads %d tokens, not the %d that its configuration allows", shortest, limits.default)
    return limits.at_most(shortest)
