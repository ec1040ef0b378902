"""What a user may set; imported without anything heavy."""

from __future__ import annotations

from pydantic import Field

from rerank import Options


class {{ cookiecutter.backend.title().replace('-', '') }}Options(Options):
    """Options of this backend, beside core's own.

    Args:
        exponent: How strongly repeated words count.
    """

    exponent: float = Field(default=0.5, gt=0)
