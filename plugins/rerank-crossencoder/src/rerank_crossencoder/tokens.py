"""A checkpoint's tokenizer as plain token ids, and the layout in which its model reads a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rerank import ModelLoadError, ModelRef, PairLayout

_PROBES: Final = (("query", "document"), ("how do bees find flowers?", "Foragers dance. Others follow, and fly."))
_NO_LIMIT: Final = 1_000_000  # tokenizers without a limit state a far larger number
_POSITIONS_BEHIND_PADDING: Final = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "camembert",
    "xmod",
    "data2vec-text",
    "longformer",
    "mpnet",
    "ibert",
)
"""Model types whose first position is ``padding_idx + 1``: so many fewer are left."""


class Tokens:
    """Texts to token ids: no truncation or padding state is ever set, so that threads may share a fast tokenizer.

    Args:
        tokenizer: A tokenizer of transformers, fast or slow.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.fast = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self.fast is not None:
            self.fast.no_truncation()  # a tokenizer.json may have come with either set
            self.fast.no_padding()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without specials, from one batched call."""
        if self.fast is not None:
            return [encoding.ids for encoding in self.fast.encode_batch_fast(list(texts), add_special_tokens=False)]
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def pair_layout(self, model: ModelRef) -> PairLayout:
        """Where the special tokens of a pair stand, learnt from one pair and checked on another.

        Raises:
            ModelLoadError: The tokenizer joins pairs in a way that no fixed layout describes.
        """
        layout = self._learn(*_PROBES[0])
        if layout is not None and all(self._explains(layout, *probe) for probe in _PROBES):
            return layout
        raise ModelLoadError(
            f"the tokenizer of {model.name} joins a pair in no fixed layout of query and document: "
            "use a backend made for this model, or report it"
        )

    def _learn(self, query: str, document: str) -> PairLayout | None:
        whole, types = self._encode_pair(query, document)
        first, second = self([query, document])
        at = _find(first, whole, 0)
        then = None if at is None else _find(second, whole, at + len(first))
        if at is None or then is None:
            return None
        return PairLayout(
            before=tuple(whole[:at]),
            between=tuple(whole[at + len(first) : then]),
            after=tuple(whole[then + len(second) :]),
            types=(types[at], types[then]),
        )

    def _explains(self, layout: PairLayout, query: str, document: str) -> bool:
        first, second = self([query, document])
        row = layout.row(first, second)
        return (row, layout.type_ids(len(first), len(row))) == self._encode_pair(query, document)

    def _encode_pair(self, query: str, document: str) -> tuple[list[int], list[int]]:
        """The tokenizer's own encoding of a pair: token ids and segment ids."""
        encoded = self.tokenizer(query, document)
        ids = encoded["input_ids"]
        return ids, encoded.get("token_type_ids", [0] * len(ids))


def _find(part: Sequence[int], whole: Sequence[int], start: int) -> int | None:
    places = range(start, len(whole) - len(part) + 1)
    return next((at for at in places if whole[at : at + len(part)] == part), None)


def find_pad_id(tokenizer: Any, config: Any) -> int:
    """What fills short rows: any id would do under the mask, but some models compute positions or lengths from it."""
    known = (getattr(config, "pad_token_id", None), tokenizer.pad_token_id)
    return next((int(value) for value in known if isinstance(value, int) and value >= 0), 0)


def find_position_limit(config: Any) -> int | None:
    """Tokens that the model has positions for; None where its positions are relative, or it states none."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0 or getattr(config, "position_biased_input", True) is False:
        return None
    behind = config.model_type in _POSITIONS_BEHIND_PADDING
    return positions - (getattr(config, "pad_token_id", None) or 0) - 1 if behind else positions


def find_trained_limit(tokenizer: Any, config: Any) -> int | None:
    """Tokens that the model was made for, by its tokenizer's word and its positions; None where neither says."""
    stated = tokenizer.model_max_length
    limits = [int(stated)] if stated is not None and stated < _NO_LIMIT else []
    positions = find_position_limit(config) or getattr(config, "max_position_embeddings", None)
    return min([*limits, *([positions] if positions and positions > 0 else [])], default=None)
