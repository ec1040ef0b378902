"""A recipe: how one family of models is prompted, and how its answer becomes a score."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rerank import InvalidOptionsError, sigmoid

END_OF_THOUGHT: Final = "</think>"

Kind = Literal["causal", "likelihood", "reasoning", "bidirectional", "t5", "t5-likelihood", "layerwise", "lightweight"]
Verdict = str | Annotated[int, Field(strict=True, ge=0)]
Counts = Literal["prompt", "texts", "passage"]

Place = Literal["query", "document", "instruction"]
PLACES: Final[tuple[Place, ...]] = ("query", "document", "instruction")
PLACE: Final = re.compile(r"\{(query|document|instruction)\}")
"""Where a text goes in a piece of a prompt."""


class Recipe(BaseModel):
    """How one family of models is prompted and scored; plain data, so that anyone can write one.

    A prompt is a sequence of pieces, each tokenised on its own without special tokens and then joined: the way the
    model was trained decides where one piece ends. ``{query}``, ``{document}`` and ``{instruction}`` mark where texts
    go; other braces stand for themselves. Only the document is ever cut, and the query only past its own limit.

    Args:
        name: Its unique name.
        source: Where the strings and the formula come from.
        kind: How the model runs. ``causal`` and ``t5`` read verdict tokens at the next position; ``likelihood`` and
            ``t5-likelihood`` sum the log-probabilities of the query's tokens after the prompt; ``reasoning`` writes a
            chain of thought up to ``</think>`` and reads the verdict tokens after it; ``bidirectional`` has one head on
            the mean of all tokens; ``layerwise`` and ``lightweight`` have a head per layer.
        pieces: The prompt; without an instruction if ``instructed`` is another.
        instructed: The prompt with an instruction, the user's or the default one; None means ``pieces``.
        instruction: The default instruction.
        true: The verdict for relevant: the text of one token, or its id.
        false: The verdict for not relevant; None means that the score is the logit of ``true`` alone.
        begins: Whether the tokenizer's beginning-of-sequence token comes first, if it has one; None leaves that to the
            tokenizer, as for any text.
        ends: Whether the tokenizer's end-of-sequence token comes last.
        max_length: Maximum token count of what ``counts`` names.
        counts: What ``max_length`` bounds. ``prompt`` is the whole prompt; ``texts`` is from the first piece with a text
            to the document's, so that the frame comes on top (mxbai-rerank); ``passage`` is the document's piece, while
            the prompt up to its end may be longer by as many tokens as follow it (FlagEmbedding).
        query_max_length: Maximum token count of the query, with its piece if it has one of its own; None is three
            quarters of ``max_length``.
        chat: Whether the pieces are one user turn, which the checkpoint's chat template frames if it has one.
        strip: Which of ``query``, ``document`` and ``instruction`` lose the white space around them.
        empty: What stands for an empty query or document.
        temperature: What the score is divided by before the sigmoid of ``normalize=True``.
        shift: What is subtracted from the score before that division.
        ids: Published ids of verdicts, by their text.
        vocabulary: How many tokens the published vocabulary has; ``ids`` are only checked where it has as many.
        models: Names on the hub that were trained with this recipe; one that ends in ``*`` is a prefix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    source: str = ""
    kind: Kind = "causal"
    pieces: tuple[str, ...] = Field(min_length=1)
    instructed: tuple[str, ...] | None = None
    instruction: str = ""
    true: Verdict = ""
    false: Verdict | None = None
    begins: bool | None = False
    ends: bool = False
    max_length: int = Field(default=512, ge=8)
    counts: Counts = "prompt"
    query_max_length: int | None = Field(default=None, ge=1)
    chat: bool = False
    strip: tuple[Place, ...] = ()
    empty: str = ""
    temperature: float = Field(default=1.0, gt=0)
    shift: float = 0.0
    ids: dict[str, int] = Field(default_factory=dict)
    vocabulary: int | None = None
    models: tuple[str, ...] = ()

    @field_validator("pieces", "instructed", "models", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_its_places(self) -> Recipe:
        for pieces in {self.pieces, self.instructed or self.pieces}:
            found = PLACE.findall("".join(pieces))
            wanted = ("document",) if self.is_likelihood else ("query", "document")
            if self.is_likelihood and "query" in found:
                raise ValueError("the prompt must not contain {query}, whose likelihood after it is the score")
            if any(found.count(place) != 1 for place in wanted):
                raise ValueError(
                    f"the prompt must contain {' and '.join(f'{{{place}}}' for place in wanted)} once each"
                )
        if self.instructed is not None and "{instruction}" not in "".join(self.instructed):
            raise ValueError("instructed must contain {instruction}")
        if self.has_verdicts and self.true == "":
            raise ValueError("true must be the text or id of the token that says relevant")
        if self.kind == "reasoning" and self.false is None:
            raise ValueError("false must be the text or id of the token that says not relevant")
        return self

    @property
    def is_likelihood(self) -> bool:
        """Whether the score is the likelihood of the query after the prompt."""
        return self.kind in ("likelihood", "t5-likelihood")

    @property
    def begins_with_query(self) -> bool:
        """Whether the query stands before the document, so that it is in what all prompts begin with."""
        whole = "".join(self.pieces)
        return -1 < whole.find("{query}") < whole.find("{document}")

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model has an encoder that reads the prompt and a decoder that answers."""
        return self.kind in ("t5", "t5-likelihood")

    @property
    def has_verdicts(self) -> bool:
        """Whether the score is read from tokens."""
        return self.kind in ("causal", "reasoning", "t5")

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The tokens that the score reads: relevant first."""
        return (self.true,) if self.false is None else (self.true, self.false)

    @property
    def formula(self) -> str:
        """How the score is computed, for people to read."""
        if self.is_likelihood:
            return "the log-likelihood of the query after the prompt"
        if self.kind == "bidirectional":
            return "the head's logit on the mean of all token vectors"
        if self.kind in ("layerwise", "lightweight"):
            return "the head of the deepest cutoff layer at the last position"
        where = {"t5": "the decoder's first step", "reasoning": "the end of its chain of thought"}
        no = "" if self.false is None else f" − logit({self.false!r})"
        return f"logit({self.true!r}){no} at {where.get(self.kind, 'the last position')}"

    def choose_pieces(self, instruction: str | None) -> tuple[str, ...]:
        """The pieces for an instruction that the user gives, or for None.

        Raises:
            InvalidOptionsError: The prompt has no place for the instruction.
        """
        asked = self.instruction if instruction is None else instruction
        pieces = self.instructed if asked and self.instructed else self.pieces
        if instruction and "{instruction}" not in "".join(pieces):
            raise InvalidOptionsError(f"recipe {self.name!r} has no place for an instruction: leave instruction out")
        return pieces

    def has_document_alone(self, instruction: str | None) -> bool:
        """Whether the document's piece ends with it and has no other text of the user's."""
        piece = next(piece for piece in self.choose_pieces(instruction) if "{document}" in piece)
        return piece.endswith("{document}") and len(PLACE.findall(piece)) == 1

    def calibrate(self, values: Sequence[float]) -> list[float]:
        """Raw scores as the model's own probabilities: the sigmoid of (score − shift) / temperature.

        Raises:
            InvalidOptionsError: Likelihoods have no such map.
        """
        if self.is_likelihood:
            raise InvalidOptionsError("a likelihood has no map to [0, 1]: leave normalize out")
        return [sigmoid((value - self.shift) / self.temperature) for value in values]


def fill(template: str, texts: Mapping[str, str]) -> str:
    """Put texts into their places, all at once: a text that contains ``{query}`` stays as it is."""
    return PLACE.sub(lambda place: texts[place[1]], template)
