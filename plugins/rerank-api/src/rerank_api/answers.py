"""From an answer's body to scores in the documents' order, with an error that names whatever is wrong."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rerank_api.provider import Question, RawAnswer

_MOST_BILLED: Final = 2**53
"""Larger numbers, negative ones and infinity are no usage."""


class WrongAnswerError(Exception):
    """What is wrong with an answer, in words; becomes a `rerank.ProviderError`."""


def read_list(
    results: str = "results", *, index: str = "index", score: str = "relevance_score", usage: Sequence[str] = ("usage",)
) -> Callable[[Any, Question], RawAnswer]:
    """A reader of answers that list results, in any order.

    Args:
        results: Where the list is, with dots between levels; empty if the body is the list.
        index: A result's position among the documents; empty if results come in the documents' order.
        score: A result's score; empty if a result is a bare number.
        usage: Paths of the billed usage, with dots between levels.
    """

    def read(body: Any, question: Question) -> RawAnswer:
        found = _list_at(body, results)
        if not index and len(found) != len(question.texts):
            raise WrongAnswerError(f"its answer has {len(found)} scores for {len(question.texts)} documents")
        pairs = [
            (_field(item, index, place) if index else place, _field(item, score, place) if score else item)
            for place, item in enumerate(found)
        ]
        return RawAnswer(pairs=pairs, usage=_usage(body, usage))

    return read


def read_scores(results: str = "scores", *, usage: Sequence[str] = ("usage",)) -> Callable[[Any, Question], RawAnswer]:
    """A reader of answers that list bare scores in the documents' order."""
    return read_list(results, index="", score="", usage=usage)


def _list_at(body: Any, path: str) -> Sequence[Any]:
    found = _at(body, path)
    if isinstance(found, list):
        return found
    what = f"in {path!r}" if path else "at its top"
    if found is not None:
        raise WrongAnswerError(f"its answer has {_kind(found)} {what}, not a list of results")
    if isinstance(body, Mapping) and path in body:
        raise WrongAnswerError(f"its answer has null {what}, not a list of results")
    if isinstance(body, Mapping):
        raise WrongAnswerError(f"its answer has no {path or 'list'!r}, only {', '.join(map(repr, body)) or 'nothing'}")
    raise WrongAnswerError(f"its answer is {_kind(body)}, not an object with {path!r}")


def _at(body: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none."""
    for name in path.split(".") if path else ():
        body = body.get(name) if isinstance(body, Mapping) else None
    return None if path == "" and isinstance(body, Mapping) else body


def _field(item: Any, name: str, place: int) -> Any:
    found = _at(item, name)
    if found is None:
        raise WrongAnswerError(f"result {place} of its answer has no {name!r}")
    return found


def _usage(body: Any, paths: Sequence[str]) -> dict[str, float]:
    """The numbers at these paths; a mapping gives each of its numbers."""
    named: dict[str, Any] = {}
    for path in paths:
        found = _at(body, path)
        named.update(found if isinstance(found, Mapping) else {path.rpartition(".")[2]: found})
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _MOST_BILLED
    }


def check(answer: RawAnswer, question: Question) -> list[float | None]:
    """Scores in the documents' order, None for those that the provider left out as not among the first ``top_k``.

    Raises:
        WrongAnswerError: An index is missing, repeated, out of range or not an index, a score is not a finite number,
            or there are fewer results than asked for.
    """
    count = len(question.texts)
    values: list[float | None] = [None] * count
    for place, (index, score) in enumerate(answer.pairs):
        position = _as_position(index, place)
        if not 0 <= position < count:
            raise WrongAnswerError(f"result {place} of its answer has the index {position}, for {count} documents")
        if values[position] is not None:
            raise WrongAnswerError(f"its answer has the index {position} twice")
        values[position] = _as_score(score, place)
    returned = len(answer.pairs)
    wanted = count if question.top_k is None else min(question.top_k, count)
    if returned < wanted:
        missing = [str(position) for position, value in enumerate(values) if value is None]
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise WrongAnswerError(f"its answer has {returned} results instead of {wanted} (missing: {shown})")
    return values


def _as_position(index: Any, place: int) -> int:
    if isinstance(index, str) and index.isascii() and index.isdecimal() and len(index) < 10:
        return int(index)
    if isinstance(index, int) and not isinstance(index, bool):
        return index
    raise WrongAnswerError(f"result {place} of its answer has {_kind(index)} as index")


def _as_score(score: Any, place: int) -> float:
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise WrongAnswerError(f"result {place} of its answer has {_kind(score)} as score")
    try:
        value = float(score)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise WrongAnswerError(f"result {place} of its answer has the score {value}")
    return value


def kept_scores(kept: Any, count: int) -> list[float | None] | None:
    """The scores from the cache; None if it has none, or not one per document."""
    return kept if isinstance(kept, list) and len(kept) == count and all(map(_is_score, kept)) else None


def _is_score(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= sys.float_info.max
    return value is None or (type(value) is float and math.isfinite(value))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), f"a {type(value).__name__}")
