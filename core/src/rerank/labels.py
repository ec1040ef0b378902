"""Which of two outputs of a classifier says that a document is relevant."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from rerank.errors import ModelLoadError

_UNNAMED: Final = re.compile(r"(label[_ ]?)?[01]", re.IGNORECASE)
_YES: Final = frozenset(
    (
        "1",
        "duplicate",
        "entailment",
        "match",
        "paraphrase",
        "positive",
        "related",
        "relevant",
        "supported",
        "true",
        "yes",
    )
)
_NO: Final = frozenset(
    ("0", "contradiction", "different", "false", "irrelevant", "negative", "neutral", "no", "unrelated", "unsupported")
)
_NEGATION: Final = re.compile(r"(not|non|no)[_\s-]*(?=\w)")


def relevant_output(config: Mapping[str, Any], model: str) -> int:
    """The position of the output that says relevant, by the names that a checkpoint gives its two outputs.

    Args:
        config: Its ``config.json``; ``id2label`` is read. Without names, or with ``LABEL_0`` and ``LABEL_1``, it is the
            second, as in monoBERT and GLUE's order of training labels 0 and 1.
        model: The model's name, for errors.

    Raises:
        ModelLoadError: The names do not say which is which.
    """
    named = config.get("id2label")
    if not isinstance(named, Mapping) or len(named) != 2:
        return 1
    names = [str(named.get(key, named.get(int(key)))) for key in ("0", "1")]
    if all(_UNNAMED.fullmatch(name) for name in names):
        return int(names[0].endswith("0"))
    says = [_says_relevant(name) for name in names]
    for place in (0, 1):
        if says[place] is not False and says[1 - place] is not True and says[0] != says[1]:
            return place
    raise ModelLoadError(
        f"{model} has two outputs, {names[0]!r} and {names[1]!r}, and which of them means relevant is unknown: name them "
        "'irrelevant' and 'relevant' in id2label of its config.json"
    )


def _says_relevant(name: str) -> bool | None:
    """Whether an output's name means relevant or its contrary; None if it is neither."""
    word = name.casefold().strip()
    plain = _NEGATION.sub("", word, count=1) if word not in _YES | _NO else word
    negated = plain != word
    if plain in _YES:
        return not negated
    if plain in _NO:
        return negated
    return None
