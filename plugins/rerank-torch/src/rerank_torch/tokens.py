"""A checkpoint's tokenizer: its own ``tokenizer.json`` if there is one, else what transformers builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import transformers

from rerank import FastTokens, ModelLoadError, ModelRef, Tokens, read_tokenizer_config, reads_segments
from rerank_torch.loading import load_tokenizer
from rerank_torch.options import TorchOptions

_CHANGE_NO_TEXT: Final = frozenset(
    (
        "chat_template",
        "clean_up_tokenization_spaces",
        "model_max_length",
        "model_input_names",
        "padding_side",
        "truncation_side",
        "use_fast",
    )
)
"""Arguments of a tokenizer of transformers that change nothing about the tokens of a text."""

_PROBES: Final = (
    "Wi-Fi router, price: 1,000 (new!)",
    "ＷｉＦｉ ½ ﬁne №5",
    "Élan naïve, cafe\u0301 İSTANBUL ẞ",
    " several   spaces\tand\nlines ",
    "東京タワー 한국어",
    "ภาษาไทย",
    "اللُّغَة العربية",
    "नमस्ते",
    "👩\u200d🔬 \x07",
)
"""Texts that tell tokenizers apart: wide and joined characters, accents, spaces, scripts with and without spaces."""


def load_tokens(model: ModelRef, options: TorchOptions) -> Tokens:
    """The checkpoint's tokenizer.

    Its ``tokenizer.json`` is read as it stands: transformers 5 rebuilds fast tokenizers from their class, and drops
    normalizers, pre-tokenizers and pair templates of the file. transformers builds the tokenizer only where there is no
    such file, or where ``tokenizer_kwargs`` may change how text is encoded: then only what they ask for may differ from
    the file.

    Raises:
        ModelLoadError: It cannot be found or read, needs code that is not trusted, or cannot be built as its file says.
    """
    if "tokenizer.json" not in model.files:
        return as_tokens(load_tokenizer(model, options))
    own = _read_own(model, options)
    if _CHANGE_NO_TEXT.issuperset(options.tokenizer_kwargs):
        return own
    rebuilt = load_tokenizer(model, options.model_copy(update={"tokenizer_kwargs": {}}))
    if (differing := _find_difference(own, rebuilt)) is not None:
        raise ModelLoadError(
            f"transformers {transformers.__version__} does not rebuild the tokenizer of {model.name} as its tokenizer.json "
            f"says (it reads {differing} in another way), so tokenizer_kwargs cannot be added to it: leave out "
            f"{', '.join(sorted(set(options.tokenizer_kwargs) - _CHANGE_NO_TEXT))}, or change tokenizer.json itself"
        )
    return as_tokens(load_tokenizer(model, options))


def _read_own(model: ModelRef, options: TorchOptions) -> FastTokens:
    settings = {**read_tokenizer_config(model), **options.tokenizer_kwargs}
    return FastTokens.read(model.fetch("tokenizer.json"), segments=reads_segments(settings))


def _find_difference(own: FastTokens, rebuilt: Any) -> str | None:
    """What transformers' tokenizer encodes or lays out in another way than the file; None if there is no such probe."""
    tokens, others = FastTokens(own.tokenizer, segments=_reads_segments(rebuilt)), as_tokens(rebuilt)
    for probe in _PROBES:
        if tokens.join(probe) != others.join(probe):
            return f"the text {probe!r}"
    pair = _PROBES[:2]
    return f"the pair {pair}" if tokens.join(*pair) != others.join(*pair) else None


def as_tokens(tokenizer: Any) -> Tokens:
    """A tokenizer of transformers, fast or slow, as `rerank.Tokens`."""
    if not tokenizer.is_fast:
        return SlowTokens(tokenizer)
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = tokenizer.split_special_tokens  # transformers sets it on each call
    return FastTokens(backend, segments=_reads_segments(tokenizer))


def _reads_segments(tokenizer: Any) -> bool:
    return "token_type_ids" in tokenizer.model_input_names


class SlowTokens(Tokens):
    """A tokenizer of transformers that is written in Python.

    Args:
        tokenizer: The ``PreTrainedTokenizer``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        encoded = self.tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def join(self, text: str, other: str | None = None) -> tuple[list[int], list[int]]:
        """One text or a pair as the tokenizer itself encodes it: token ids with special tokens, and segment ids."""
        encoded = self.tokenizer(text, other)
        ids = encoded["input_ids"]
        return ids, encoded.get("token_type_ids", [0] * len(ids))

    def find(self, token: str) -> int | None:
        """The id of a token by its name; None if the vocabulary lacks it."""
        found: int | None = self.tokenizer.get_vocab().get(token)
        return found

    def name(self, token_id: int) -> str:
        """A token's name, such as ``##ing`` or ``[MASK]``; empty if the vocabulary lacks the id."""
        return self.tokenizer.convert_ids_to_tokens(token_id) or ""

    def spans(self, text: str) -> None:
        """None: only tokenizers of the library ``tokenizers`` know where their tokens stand."""

    @property
    def pad_id(self) -> int | None:
        """The id that the tokenizer itself pads with; None if it states none."""
        stated: int | None = self.tokenizer.pad_token_id
        return stated
