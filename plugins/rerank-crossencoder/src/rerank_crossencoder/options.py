"""The backend's options; imports no heavy library."""

from __future__ import annotations

from string import Formatter

from pydantic import field_validator

from rerank_torch import TorchOptions


class CrossEncoderOptions(TorchOptions):
    """Options of the backend ``cross-encoder``, besides those of every torch backend.

    ``max_length`` is by default the model's own limit, at most 1,024; ``query_max_length`` is three quarters of it
    (FlagEmbedding 1.4.2). A longer query is cut with a warning; otherwise only the document is cut.

    Args:
        query_instruction_for_rerank: Joined with every query, such as ``"A: "``; None takes the prompt that the checkpoint
            saved as its default, if any, and ``""`` adds nothing.
        query_instruction_format: How instruction and query become one text; must have two places marked ``{}``.
        passage_instruction_for_rerank: Joined with every document.
        passage_instruction_format: How instruction and document become one text.
    """

    query_instruction_for_rerank: str | None = None
    query_instruction_format: str = "{}{}"
    passage_instruction_for_rerank: str | None = None
    passage_instruction_format: str = "{}{}"

    @field_validator("query_instruction_format", "passage_instruction_format")
    @classmethod
    def _two_places(cls, value: str) -> str:
        value = value.replace("\\n", "\n")  # command lines pass a newline like this; FlagEmbedding reads it too
        try:
            marks = [mark for mark in Formatter().parse(value) if mark[1] is not None]
        except ValueError:
            marks = []
        names = sorted(str(name) for _, name, _, _ in marks)
        if names not in (["", ""], ["0", "1"]) or any(spec or conversion for _, _, spec, conversion in marks):
            raise ValueError(
                "a format must have two places marked {}, for the instruction and the text, such as '{}{}'"
            )
        return value
