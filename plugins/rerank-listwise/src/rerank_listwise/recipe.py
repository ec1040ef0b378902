"""A recipe: how a family of models is asked one kind of question, and how its answer is read. Plain data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rerank_listwise.permutation import ANSWER_MARK, CLOSING, LETTERS, OPENING, identifiers
from rerank_listwise.questions import Kind

Role = Literal["system", "user", "assistant"]
Reads = Literal["order", "ties", "choice", "grades", "verdicts"]
AlgorithmName = Literal[
    "sliding-window",
    "top-down",
    "tournament",
    "setwise-heapsort",
    "setwise-insertion",
    "pairwise-all-pairs",
    "pairwise-heapsort",
    "pairwise-bubble",
    "groups",
    "one-pass",
]

_PLACE: Final = re.compile(r"\{(query|count|select|passages|identifiers|number|passage|last)\}")
_SPACE: Final = re.compile(r"\s+")


class Turn(BaseModel):
    """One message of a conversation.

    Args:
        role: Who says it.
        text: What is said, with places for texts.
        each: Whether there is one such message per passage; neighbours with ``each`` alternate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    text: str
    each: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is sent."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a model continues.

    Args:
        messages: The conversation.
        begun: What its answer begins with, which is given to it.
        labels: The identifiers among which it chooses, where their probabilities as the next token are read; empty if it
            writes text.
        max_new_tokens: How long its answer may be; None leaves that to the model's own end.
        usual_tokens: How long such an answer is at most in the usual case: the limit of a model on this machine where
            ``max_new_tokens`` is None, since it may find no end.
        schema: A JSON schema of the answer, for endpoints that hold a model to one.
        without_chat_template: How the conversation is written where a checkpoint has no chat template of its own.
        joins_system: What stands between the system message and the first user message where the chat template has no
            system messages.
        temperature: Temperature of sampling; 0 takes the most probable token.
        top_p: Share of probability that is sampled from.
    """

    messages: tuple[Message, ...]
    begun: str = ""
    labels: tuple[str, ...] = ()
    max_new_tokens: int | None = None
    usual_tokens: int | None = None
    schema: Mapping[str, Any] | None = None
    without_chat_template: str = "plain"
    joins_system: str = "\n"
    temperature: float = 0.0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """How a model continued a prompt.

    Args:
        text: What it wrote after ``Prompt.begun``.
        logits: For each label its log-probability or logit as the next token, as far as they are known; None if the
            prompt has no labels.
        prompt_tokens: Tokens that it read, if that is known.
        completion_tokens: Tokens that it wrote, if that is known.
        cut: Whether its answer was cut at a limit.
    """

    text: str
    logits: Mapping[str, float] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cut: bool = False


class Example(BaseModel):
    """A solved question, shown before the one that is asked.

    Args:
        query: Its query.
        passages: Its passages.
        answer: What the model should have said, word for word.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    query: str
    passages: tuple[str, ...] = Field(min_length=1)
    answer: str


class Recipe(BaseModel):
    """How a family of models is asked, and how its answer is read; plain data, so that anyone can write one.

    The texts of ``turns`` have places: ``{query}``, ``{count}`` passages of which ``{select}`` are wanted, ``{last}``, the last
    passage's identifier, ``{identifiers}``, all of them, and ``{passages}``, where each passage is written as ``passage``:
    ``{number}`` is its identifier and ``{passage}`` its text. Other braces stand for themselves.

    Args:
        name: Its unique name.
        source: Where the strings come from.
        kind: The question that it asks.
        turns: The conversation.
        passage: How one passage is written.
        separator: What stands between two passages.
        identifier: How each of ``{identifiers}`` is written; commas stand between them.
        letters: Whether passages have letters in place of numbers.
        first: The number of the first passage.
        begun: What the answer begins with, which is given to the model.
        labels: Whether the identifiers' probabilities as the next token are read, in place of a text.
        reads: How the answer is read.
        scale: What a grade of 1 means: grades are divided by it.
        structured: Whether an endpoint that can is told to answer in JSON of the schema that is read.
        algorithm: The algorithm that the family is published with.
        window_size: Passages per window that it is published with.
        stride: How many places each window is nearer the top than the one before it; None is half of ``window_size``.
        children: Children per node of the heap that it is published with, for ``best``.
        max_passage_tokens: Maximum token count of a passage.
        answer_tokens: How long an answer may be at most, in tokens; None allows what its passages need.
        temperature: Temperature of sampling that it is published with.
        top_p: Share of probability that is sampled from.
        without_chat_template: How the conversation is written where a checkpoint has no chat template: ``plain``, or
            ``vicuna``.
        joins_system: What stands between the system message and the first user message where the chat template has no
            system messages.
        models: Names on the hub that were trained with this recipe; one that ends in ``*`` is a prefix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    source: str = ""
    kind: Kind = "order"
    turns: tuple[Turn, ...] = Field(min_length=1)
    passage: str = "[{number}] {passage}"
    separator: str = "\n"
    identifier: str = "[{number}]"
    letters: bool = False
    first: int = Field(default=1, ge=0)
    begun: str = ""
    labels: bool = False
    reads: Reads = "order"
    scale: float = Field(default=1.0, gt=0)
    structured: bool = False
    algorithm: AlgorithmName = "sliding-window"
    window_size: int = Field(default=20, ge=2)
    stride: int | None = Field(default=None, ge=1)
    children: int = Field(default=3, ge=2)
    max_passage_tokens: int = Field(default=400, ge=1)
    answer_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    without_chat_template: Literal["plain", "vicuna"] = "plain"
    joins_system: str = "\n"
    models: tuple[str, ...] = ()

    @field_validator("models", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_its_places(self) -> Recipe:
        whole = "".join(turn.text for turn in self.turns)
        if "{query}" not in whole:
            raise ValueError("its turns must contain {query}")
        if "{passages}" not in whole and not any(turn.each and "{passage}" in turn.text for turn in self.turns):
            raise ValueError("its turns must contain {passages}, or a turn with each and {passage}")
        if "{passages}" in whole and "{passage}" not in self.passage:
            raise ValueError("passage must contain {passage}")
        if self.turns[-1].role != "user":
            raise ValueError("its last turn must be the user's")
        return self

    @model_validator(mode="after")
    def _can_be_read(self) -> Recipe:
        for kind, reads in (("grade", "grades"), ("judge", "verdicts")):
            if (self.kind == kind) != (self.reads == reads):
                raise ValueError(f"kind={kind!r} and reads={reads!r} need each other")
        if self.structured and self.reads != "verdicts":
            raise ValueError("structured needs reads='verdicts', whose JSON schema endpoints are given")
        if self.letters and self.reads in ("grades", "verdicts"):
            raise ValueError(f"reads={self.reads!r} needs numbers: leave letters out")
        if self.stride is not None and self.stride > self.window_size:
            raise ValueError("stride must not be above window_size, or passages between two windows are never read")
        return self

    @property
    def most_passages(self) -> int | None:
        """How many passages have identifiers, of one token where their probabilities are read; None for any number."""
        if self.letters:
            return len(LETTERS)
        return 10 - self.first if self.labels else None

    def prompt(
        self, query: str, passages: Sequence[str], *, select: int = 1, examples: Sequence[Example] = ()
    ) -> Prompt:
        """The conversation about some passages, as texts; see `clean` for what they must not contain.

        Args:
            query: The query.
            passages: The passages' texts.
            select: How many of them are wanted.
            examples: Solved questions, shown before.
        """
        messages: list[Message] = []
        for example in examples:
            shown = list(self._messages(example.query, example.passages, select))
            messages += [m for m in shown if m.role != "system" or not messages]
            messages.append(Message("assistant", example.answer))
        asked = list(self._messages(query, passages, select))
        messages += [m for m in asked if m.role != "system" or not messages]
        names = identifiers(len(passages), letters=self.letters, first=self.first)
        return Prompt(
            messages=tuple(messages),
            begun=self.begun,
            labels=tuple(names) if self.labels else (),
            max_new_tokens=self.answer_tokens,
            without_chat_template=self.without_chat_template,
            joins_system=self.joins_system,
            temperature=self.temperature,
            top_p=self.top_p,
        )

    def _messages(self, query: str, passages: Sequence[str], select: int) -> Iterator[Message]:
        names = identifiers(len(passages), letters=self.letters, first=self.first)
        numbered = [{"number": name, "passage": text} for name, text in zip(names, passages)]
        shared = {
            "query": query,
            "count": str(len(passages)),
            "select": str(select),
            "last": names[-1],
            "identifiers": ", ".join(_fill(self.identifier, {"number": name}) for name in names),
            "passages": self.separator.join(_fill(self.passage, one) for one in numbered),
        }
        turns = list(self.turns)
        while turns:
            if not turns[0].each:
                turn = turns.pop(0)
                yield Message(turn.role, _fill(turn.text, shared))
                continue
            repeated = []
            while turns and turns[0].each:
                repeated.append(turns.pop(0))
            for one in numbered:
                for turn in repeated:
                    yield Message(turn.role, _fill(turn.text, {**shared, **one}))

    def clean(self, text: str) -> tuple[str, int]:
        """A passage or query as it goes into its place, and how many imitations of identifiers in it were changed.

        White space becomes single spaces, so that no text imitates the beginning of a line; ``[3]`` becomes ``(3)``, in
        whatever brackets and digits, and of ``Passage 3:`` the colon goes, where passages are marked like that. The marks of an
        answer and of a chat template lose their brackets: ``<answer>`` becomes ``(answer)``, ``<|im_end|>`` ``(|im_end|)``.
        """
        text = _SPACE.sub(" ", text).strip()
        defused = 0
        for pattern, replacement in self._imitations():
            text, count = pattern.subn(replacement, text)
            defused += count
        return text, defused

    def _imitations(self) -> Iterator[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
        name = "[A-Za-zＡ-Ｚａ-ｚ]" if self.letters else _DIGITS
        yield ANSWER_MARK, r"(\1)"
        yield _CHAT_MARK, r"(\1)"
        listed = rf"{_BETWEEN}(?:(?:passage|document|doc)s?{_BETWEEN})?{name}(?:{_BETWEEN}{name})*{_BETWEEN}"
        pattern = rf"[{re.escape(OPENING)}]({listed})[{re.escape(CLOSING)}]"
        yield re.compile(pattern, re.IGNORECASE), lambda found: f"({_JOINTS.sub(',', found[1]).strip()})"
        marks = {self.passage, *(turn.text for turn in self.turns if turn.each)}
        for word in sorted({found[1] for mark in marks for found in _MARKED.finditer(mark)}):
            yield re.compile(rf"\b({word}\s*{name})\s*[:：=＝]", re.IGNORECASE), r"\1"


_CHAT_MARK: Final = re.compile(r"[<\[](\|[\w.-]{1,40}\||/?(?:s|INST|(?:start|end)_of_turn))[>\]]")
"""What ends a turn for one model or another; a server may read it as such in the middle of a passage."""
_MARKED: Final = re.compile(r"(\w+?) ?\{number\} ?[:=]")
_BETWEEN: Final = r"[\s.,;:#>=＞＝–\-\u200b-\u200d\u2060\ufeff]*"
_JOINTS: Final = re.compile("[>=＞＝]")
"""What may stand beside identifiers in brackets, and of that what would order them."""
_DIGITS: Final = r"[\d²³¹⁰-⁹₀-₉①-⒛⓪-⓿❶-➓]+"
"""Digits of any script, raised, lowered and in circles."""


def _fill(template: str, texts: Mapping[str, str]) -> str:
    """Put texts into their places, all at once: a text that contains ``{query}`` stays as it is."""
    return _PLACE.sub(lambda place: texts.get(place[1], place[0]), template)
