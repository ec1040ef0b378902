"""The backend's options; imports no heavy library."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from rerank import Options


class {{ cookiecutter.backend.title().replace('-', '') }}Options(Options):
    """Options of this backend, besides core's own.

    Args:
        exponent: How strongly repeated words count.
    """

    exponent: float = Field(default=0.5, gt=0)

    @field_validator("long_documents", "window", "overlap", "aggregate")
    @classmethod
    def _has_no_windows(cls, given: Any, field: ValidationInfo) -> Any:
        if given != cls.model_fields[field.field_name or ""].default:
            raise ValueError("documents are read whole: leave it out")
        return given
