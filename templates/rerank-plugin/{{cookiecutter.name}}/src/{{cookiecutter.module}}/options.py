"""The backend's options; imports no heavy library."""

from __future__ import annotations

from pydantic import Field, field_validator

from rerank import Options


class {{ cookiecutter.backend.title().replace('-', '') }}Options(Options):
    """Options of this backend, besides core's own.

    Args:
        exponent: How strongly repeated words count.
    """

    exponent: float = Field(default=0.5, gt=0)

    @field_validator("long_documents")
    @classmethod
    def _has_no_windows(cls, given: str) -> str:
        if given == "chunk":
            raise ValueError("documents are read whole: leave long_documents out")
        return given
