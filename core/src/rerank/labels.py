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
        "answer",
        "correct",
        "duplicate",
        "entailment",
        "equivalent",
        "good",
        "match",
        "paraphrase",
        "positive",
        "related",
        "relevant",
        "similar",
        "supported",
        "supports",
        "true",
        "yes",
    )
)
_NO: Final = frozenset(
    (
        "0",
        "bad",
        "contradiction",
        "different",
        "dissimilar",
        "false",
        "incorrect",
        "irrelevant",
        "negative",
        "neutral",
        "no",
        "refuted",
        "refutes",
        "unrelated",
        "unsupported",
    )
)
_NEGATION: Final = re.compile(r"^(not|non|no)[_\s-]*(?=\w)")


def relevant_output(config: Mapping[str, Any], model: str) -> int:
    """The position of the output that says relevant, by the names that a checkpoint gives its two outputs.

    Args:
        config: Its ``config.json``; ``id2label`` and ``label2id`` are read. Without names, or with ``LABEL_0`` and ``LABEL_1``, it is the
            second, as in monoBERT and GLUE's order of training labels 0 and 1.
        model: The model's name, for errors.

    Raises:
        ModelLoadError: The names do not say which is which, or the two say it differently.
    """
    stated = [names for names in _read_names(config) if not all(_UNNAMED.fullmatch(name) for name in names)]
    if len(stated) == 2 and stated[0] == stated[1][::-1]:
        raise ModelLoadError(
            f"{model} has {stated[0][0]!r} as its first output by id2label and as its second by label2id of its config.json: "
            "correct the one that is wrong"
        )
    names = next(iter(stated or _read_names(config)), None)
    if names is None:
        return 1
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


def _read_names(config: Mapping[str, Any]) -> list[list[str]]:
    """The two outputs' names in their order, by ``id2label`` and by ``label2id``, where these have them."""
    found = []
    named, places = config.get("id2label"), config.get("label2id")
    if isinstance(named, Mapping) and len(named) == 2:
        found.append([str(named.get(key, named.get(int(key)))) for key in ("0", "1")])
    if isinstance(places, Mapping) and sorted(map(str, places.values())) == ["0", "1"]:
        found.append(sorted(map(str, places), key=lambda name: str(places[name])))
    return found


def _says_relevant(name: str) -> bool | None:
    """Whether an output's name means relevant or its contrary; None if it is neither."""
    word = name.casefold().strip()
    plain = word if word in _YES | _NO else _NEGATION.sub("", word)
    negated = plain != word
    if plain in _YES:
        return not negated
    if plain in _NO:
        return negated
    return None
