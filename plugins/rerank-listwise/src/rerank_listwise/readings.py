"""Answers that are no order: grades from 0 to a scale, and verdicts, relevant or not, with their reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, field_validator

from rerank_listwise.permutation import final_answer, in_plain_digits
from rerank_listwise.questions import Answer, Question
from rerank_listwise.recipe import Recipe

_GRADE: Final = re.compile(
    r"(?:\[\s*(?P<bracketed>\d{1,9})\s*\][\s\"'*]*[:=–—-]|\b(?P<bare>\d{1,9})[\s\"'*]*[:=])"
    r"[\s\"'*]*(?P<grade>-?\d{1,9}(?:\.\d{1,9})?)"
)
_VERDICT: Final = re.compile(
    r"^[^\w\n]*(?:(?:passage|document|doc)[^\w\n]*)?(?:(?P<number>\d{1,9})[\s\].):*–-]*)?"
    r"\b(?P<verdict>not[ _-]?relevant|irrelevant|relevant)\b[\s:.*–-]*(?P<why>[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_JSON: Final = re.compile(r"\{|\[(?=\s*\{)")
_TRIES: Final = 256
"""Where JSON may begin, and how many such places are tried."""


class Reading(NamedTuple):
    """What a completion says.

    Args:
        answer: The answer.
        faults: What is wrong with it, by name.
        is_whole: Whether it says all that was asked.
    """

    answer: Answer
    faults: Mapping[str, int]
    is_whole: bool


def read_grades(text: str, question: Question, recipe: Recipe) -> Reading:
    """Grades by identifier, such as ``{"[1]": 5}``, as shares of the scale; a passage without one has 0 (GroupRank)."""
    grades: dict[int, float] = {}
    unknown = 0
    for found in _GRADE.finditer(in_plain_digits(final_answer(text))):
        position = int(found["bracketed"] or found["bare"]) - recipe.first
        if 0 <= position < len(question.passages):
            grades[question.passages[position]] = min(1.0, max(0.0, float(found["grade"]) / recipe.scale))
        else:
            unknown += 1
    missing = len(question.passages) - len(grades)
    faults = {"unreadable": 1} if not grades else {"missing": missing, "unknown": unknown}
    scores = {passage: grades.get(passage, 0.0) for passage in question.passages}
    order = tuple(sorted(question.passages, key=lambda passage: -scores[passage]))
    return Reading(Answer(order, scores if grades else {}), faults, not missing)


def read_verdicts(text: str, question: Question, first: int) -> Reading:
    """Verdicts by identifier: JSON of `VERDICTS`, or lines such as ``[1] RELEVANT: it says why``."""
    only = first if len(question.passages) == 1 else -1
    said = final_answer(text)
    found = _verdicts_in_json(said, only) or _verdicts_in_json(text, only) or _verdicts_in_lines(said, only)
    scores: dict[int, float] = {}
    details: dict[int, Mapping[str, Any]] = {}
    for number, relevant, why in found:
        position = number - first
        if 0 <= position < len(question.passages) and (passage := question.passages[position]) not in scores:
            scores[passage] = float(relevant)
            details[passage] = {"relevant": relevant, **({"explanation": why} if why else {})}
    missing = len(question.passages) - len(scores)
    order = tuple(sorted(scores, key=lambda passage: -scores[passage]))
    faults = {"unreadable": 1} if not scores else {"missing": missing}
    return Reading(Answer(order, scores, details), faults, not missing)


def _verdicts_in_lines(said: str, only: int) -> list[tuple[int, bool, str]]:
    """The number, the verdict and the reason of each line that has a verdict; ``only`` is a number that may go unsaid."""
    lines = [*_VERDICT.finditer(said)] or [*_VERDICT.finditer(in_plain_digits(said))]
    return [
        (int(line["number"] or only), not line["verdict"].lower().startswith(("not", "irr")), line["why"].strip())
        for line in lines
    ]


VERDICTS: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "verdicts": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "passage": {"type": "integer"},
                    "explanation": {"type": "string"},
                    "relevant": {"type": "boolean"},
                },
                "required": ["passage", "explanation", "relevant"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["verdicts"],
    "additionalProperties": False,
}
"""The JSON schema of verdicts, for endpoints that hold a model to one."""


def _verdicts_in_json(said: str, only: int) -> list[tuple[int, bool, str]]:
    """The same of each entry in the JSON of a text, whatever stands around it."""
    verdicts: list[tuple[int, bool, str]] = []
    end = 0
    for start in islice(_JSON.finditer(said), _TRIES):
        if start.start() < end:  # inside what is read already
            continue
        try:
            content, end = json.JSONDecoder().raw_decode(said, start.start())
        except (ValueError, RecursionError):
            continue
        rows = content.get("verdicts", content) if isinstance(content, dict) else content
        for row in rows if isinstance(rows, list) else [rows]:
            with suppress(ValueError):
                verdict = _Verdict.model_validate(row)
                number = only if verdict.passage is None else verdict.passage
                verdicts.append((number, verdict.relevant, verdict.explanation or ""))
    return verdicts


class _Verdict(BaseModel):
    """One entry of `VERDICTS`, as models write it: ``"passage": "[1]"`` and ``"relevant": "true"`` are read too."""

    passage: int | None = None
    relevant: bool
    explanation: str | None = None

    @field_validator("passage", mode="before")
    @classmethod
    def _without_brackets(cls, value: Any) -> Any:
        return value.strip(" []") if isinstance(value, str) else value
