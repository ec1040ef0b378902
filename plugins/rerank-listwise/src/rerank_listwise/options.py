"""The options of both backends, besides those of the generators; imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from rerank import InvalidOptionsError, Options, Reload, is_data, read_data
from rerank_listwise.recipe import AlgorithmName, Example, Recipe


class PromptOptions(Options):
    """Options of every backend that asks a language model about passages.

    Args:
        generator: What runs the model, such as ``chat`` or ``torch``; None decides by the model's name and options.
        recipe: How to ask it: a recipe's name, a JSON file, or a `Recipe` or mapping. None takes the one that the model was
            trained with, else the usual one for the algorithm.
        examples: Solved questions, shown before each: a query, its passages and the answer, word for word.
        max_passage_tokens: Maximum token count of a passage; None is the recipe's. Where the model's tokenizer is not at
            hand, tokens are estimated from the characters, in any script.
        max_new_tokens: How long an answer may be, in tokens; None is the recipe's, or what its passages need.
        temperature: Temperature of sampling; None is the recipe's, which is 0 for all but a few.
        malformed: What happens to an answer that does not name every passage once. ``repair`` takes what it names and lets
            the others follow in their order; ``retry`` first asks again; ``error`` raises. All are counted in
            ``diagnostics["malformed"]``. A call in which no answer names a passage always raises.
        retries: How often ``malformed="retry"`` asks again.
        depth: Rank only so many candidates; the others follow in their order, without being read. None ranks all.
    """

    generator: Reload[str | None] = None
    recipe: Reload[Recipe | str | None] = None
    examples: tuple[Example, ...] = ()
    max_passage_tokens: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    malformed: Literal["repair", "retry", "error"] = "repair"
    retries: int = Field(default=2, ge=1)
    depth: int | None = Field(default=None, ge=1)

    @field_validator("recipe", mode="before")
    @classmethod
    def _read_recipe(cls, value: Any) -> Any:
        return read_data(Recipe, value, "the recipe") if is_data(value) else value

    @field_validator("long_documents", "window", "overlap", "aggregate")
    @classmethod
    def _has_no_windows(cls, given: Any, field: ValidationInfo) -> Any:
        if given != cls.model_fields[field.field_name or ""].default:
            raise ValueError("passages are compared whole: raise max_passage_tokens, or leave it out")
        return given


class ListwiseOptions(PromptOptions):
    """Options of the backend ``llm-listwise``.

    Args:
        algorithm: How an order comes out of questions; None is the one that the model's recipe was published with.
        window_size: Passages per question at most, for algorithms that show many; None is the recipe's. Smaller only where
            the context cannot hold as many, with a warning.
        stride: How many places each sliding window is nearer the top than the one before it; None is the recipe's, or half of
            ``window_size`` if that is set.
        passes: How often a sliding window goes through the list.
        pivot: The rank in the first window that ``top-down`` compares all others with; None is two fifths of the window.
        arrangements: In how many arrangements ``top-down`` asks about its last window, whose ranks are summed.
        tournaments: How many tournaments run side by side.
        children: Children per node of the heap of the ``setwise`` algorithms; None is the recipe's, or 3.
        top: How many places the ``setwise`` and ``pairwise`` sorts settle; None is the call's ``top_k``, or 10.
        epochs: How often ``groups`` grades each passage, in other groups each time.
        seed: Seed of the groups of ``tournament`` and ``groups``.
        answers: ``text`` lets the model write its answer; ``labels`` reads the probabilities of the passages' identifiers as
            its next token (FIRST, likelihood), in one step; None is the recipe's.
    """

    algorithm: AlgorithmName | None = None
    window_size: int | None = Field(default=None, ge=2)
    stride: int | None = Field(default=None, ge=1)
    passes: int = Field(default=1, ge=1)
    pivot: int | None = Field(default=None, ge=1)
    arrangements: int = Field(default=3, ge=1)
    tournaments: int = Field(default=10, ge=1)
    children: int | None = Field(default=None, ge=2)
    top: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=2, ge=1)
    seed: int = 0
    answers: Literal["text", "labels"] | None = None

    @model_validator(mode="after")
    def _windows_overlap(self) -> ListwiseOptions:
        if self.window_size is not None and self.stride is not None and self.stride > self.window_size:
            raise ValueError("stride must not be above window_size, or passages between two windows are never read")
        if self.window_size is not None and self.pivot is not None and self.pivot >= self.window_size:
            raise ValueError("pivot must be below window_size")
        return self

    def algorithm_for(self, own: Recipe | None) -> AlgorithmName:
        """The algorithm that is asked for, else the one that a model's own recipe was published with."""
        return self.algorithm or (own.algorithm if own is not None else "sliding-window")

    def windows_for(self, size: int, stride: int | None) -> tuple[int, int]:
        """Passages per window, and the stride of windows.

        Args:
            size: Passages per window that the model was published with.
            stride: The stride that it was published with; None is half of ``size``.

        Raises:
            InvalidOptionsError: Windows do not overlap.
        """
        if self.window_size is not None:
            size, stride = self.window_size, None
        stride = self.stride or stride or max(1, size // 2)
        if stride > size:
            raise InvalidOptionsError(
                f"stride={stride} is above the {size} passages of a window, so that passages between two windows would never "
                "be read: lower it, or raise window_size"
            )
        return size, stride


class FilterOptions(PromptOptions):
    """Options of the backend ``llm-filter``.

    Args:
        together: How many passages one question shows; 1 judges each alone.
        explain: Whether the model says why, in ``details["explanation"]``.
        structured: Whether the endpoint is told to answer in JSON of a fixed schema; None tries, and does without where it is
            refused.
    """

    together: int = Field(default=1, ge=1)
    explain: bool = True
    structured: bool | None = None

    def algorithm_for(self, own: Recipe | None) -> Literal["judge"]:
        """Judging is all that a filter does."""
        return "judge"

    def windows_for(self, size: int, stride: int | None) -> tuple[int, int]:
        """Passages per question, and the same again, since none is judged twice."""
        return self.together, self.together
