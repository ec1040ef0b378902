"""A checkpoint's saved activation: its own map from a logit to a score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rerank import InvalidOptionsError, ModelRef, sigmoid

_OWN_SIGMOID: Final = ("Sigmoid", "Softmax")
_NONE: Final = ("Identity",)


def saved_activation(model: ModelRef) -> str | None:
    """The class path of the activation that sentence-transformers saved, such as ``torch.nn…Sigmoid``.

    It is in ``config.json`` (``sentence_transformers.activation_fn`` from version 4 on, before that
    ``sbert_ce_default_activation_function``) or in ``config_sentence_transformers.json``.
    """
    own = model.config.get("sentence_transformers")
    found = own.get("activation_fn") if isinstance(own, dict) else None
    found = found or model.config.get("sbert_ce_default_activation_function")
    if not found and "config_sentence_transformers.json" in model.files:
        found = model.read_json("config_sentence_transformers.json").get("activation_fn")
    return str(found) if found else None


def calibrate(values: Sequence[float], activation: str | None, model: str) -> list[float]:
    """Raw values as the checkpoint's own scores in [0, 1].

    A saved sigmoid is applied as it is; a softmax over two outputs is the sigmoid of their log-odds. Without a saved
    activation, or with the identity, whose range is not [0, 1], the sigmoid of the logit is used.

    Raises:
        InvalidOptionsError: The checkpoint saved another activation.
    """
    name = "Identity" if activation is None else activation.rpartition(".")[2]
    if name not in (*_OWN_SIGMOID, *_NONE):
        raise InvalidOptionsError(
            f"{model} saved the activation {activation}, which has no known map to [0, 1]: leave normalize out"
        )
    return [sigmoid(value) for value in values]
