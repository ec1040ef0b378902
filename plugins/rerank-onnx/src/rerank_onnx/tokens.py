"""A ``tokenizer.json`` as plain token ids, and the layouts of special tokens that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from rerank import InvalidOptionsError, ModelLoadError, PairLayout
from rerank_onnx.checkpoint import Checkpoint, DamagedCheckpointError

_PAD_TOKENS = ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>")
_MODEL_LIMIT = 1_000_000  # tokenizer_config.json writes "no limit" as a far larger number


class Tokens:
    """Texts to token ids, without specials, truncation or padding: no state changes, so threads may share it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        try:
            self.tokenizer = Tokenizer.from_file(str(checkpoint.tokenizer))
        except Exception as error:  # tokenizers raises nothing narrower
            raise DamagedCheckpointError(
                f"{checkpoint.tokenizer} is no tokenizer ({error}): fetch the checkpoint again"
            ) from error
        self.tokenizer.no_truncation()
        self.pad_id = self._find_pad_id(checkpoint.config)
        self.tokenizer.no_padding()
        self.positions = _find_positions(checkpoint.config, self.pad_id)
        self.limit = _find_limit(checkpoint.tokenizer_config, self.positions)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def check(self, max_length: int) -> int:
        """Return ``max_length`` unchanged.

        Raises:
            InvalidOptionsError: The model has no positions for so many tokens.
        """
        if self.positions is not None and max_length > self.positions:
            raise InvalidOptionsError(
                f"max_length={max_length} is beyond the {self.positions} tokens that the model has positions for: "
                "lower it, or let long_documents='chunk' read all of a document in windows"
            )
        return max_length

    def single_layout(self) -> PairLayout:
        """Where the special tokens of one text stand: in ``before`` and ``after``."""
        probe, whole = self._plain("a"), self.tokenizer.encode("a")
        first = whole.special_tokens_mask.index(0)
        last = first + len(probe)
        return PairLayout(before=tuple(whole.ids[:first]), after=tuple(whole.ids[last:]))

    def pair_layout(self) -> PairLayout:
        """Where the special tokens of a pair stand, learnt from how the tokenizer joins one.

        Raises:
            ModelLoadError: It joins pairs in a way that no fixed layout describes.
        """
        query, document = self._plain("a"), self._plain("b")
        whole = self.tokenizer.encode("a", "b")  # its parts put together by hand would not say whose token is whose
        owners = whole.sequence_ids
        if 0 in owners and 1 in owners:
            first, second = owners.index(0), owners.index(1)
            layout = PairLayout(
                before=tuple(whole.ids[:first]),
                between=tuple(whole.ids[first + len(query) : second]),
                after=tuple(whole.ids[second + len(document) :]),
                types=(whole.type_ids[first], whole.type_ids[second]),
            )
            row = layout.row(query, document)
            if row == whole.ids and layout.type_ids(len(query), len(row)) == whole.type_ids:
                return layout
        raise ModelLoadError(
            "this tokenizer joins a pair in no fixed layout of query and document: use a backend of its own"
        )

    def _plain(self, text: str) -> list[int]:
        return self([text])[0]

    def _find_pad_id(self, config: Mapping[str, Any]) -> int:
        """The id that fills short rows; some graphs compute positions from it, so it must be the model's own."""
        known = [(self.tokenizer.padding or {}).get("pad_id"), config.get("pad_token_id")]
        named = [self.tokenizer.token_to_id(token) for token in _PAD_TOKENS]
        return next((int(value) for value in [*known, *named] if value is not None), 0)


def _find_positions(config: Mapping[str, Any], pad_id: int) -> int | None:
    """Tokens that the model has positions for, where it says so; RoBERTa's begin behind the padding id."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    behind_padding = any(name in str(config.get("model_type", "")) for name in ("roberta", "camembert", "mpnet"))
    return positions - pad_id - 1 if behind_padding else positions


def _find_limit(tokenizer_config: Mapping[str, Any], positions: int | None) -> int:
    """Tokens that the model was made for, by its tokenizer's word and its positions."""
    stated = tokenizer_config.get("model_max_length")
    limits = [int(stated)] if isinstance(stated, (int, float)) and 0 < stated < _MODEL_LIMIT else []
    return min([*limits, *([positions] if positions else [])], default=512)
