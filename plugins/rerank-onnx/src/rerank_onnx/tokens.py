"""A ``tokenizer.json`` as plain token ids, and the layouts of special tokens that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from rerank import ModelLoadError, PairLayout
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
        self.limit = _find_limit(checkpoint, self.pad_id)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

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


def _find_limit(checkpoint: Checkpoint, pad_id: int) -> int:
    """Tokens that the model was made for; RoBERTa's positions begin behind the padding id."""
    config, stated = checkpoint.config, checkpoint.tokenizer_config.get("model_max_length")
    limits = [int(stated)] if isinstance(stated, (int, float)) and stated < _MODEL_LIMIT else []
    if isinstance(positions := config.get("max_position_embeddings"), int) and positions > 0:
        roberta = any(name in str(config.get("model_type", "")) for name in ("roberta", "camembert"))
        limits.append(positions - pad_id - 1 if roberta else positions)
    return min(limits, default=512)
