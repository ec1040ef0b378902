"""The key of a service, from the options or the service's environment variables, and how messages hide it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from rerank import AuthenticationError
from rerank_http.options import HttpOptions

_SHORTEST: Final = 4
"""Shorter values may occur in any message."""


def read_key(options: HttpOptions, variables: Sequence[str], *, service: str) -> str | None:
    """The key from the options or the environment; None if there is none.

    Args:
        options: Their ``api_key`` takes precedence.
        variables: Environment variables that may hold the key; the first one set wins.
        service: The service's name in errors.

    Raises:
        AuthenticationError: A variable's value cannot be sent in a header.
    """
    if options.api_key is not None:
        return options.api_key.get_secret_value()
    for variable in variables:
        if key := os.environ.get(variable, "").strip():
            if not key.isascii() or not key.isprintable():
                raise AuthenticationError(
                    f"the key in {variable} has characters that a header cannot contain: set it again", provider=service
                )
            return key
    return None


class Secrets:
    """Values that no message may show: keys, tokens, and the values of headers."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, value: str) -> None:
        """Hide a value from now on; very short ones are not secrets."""
        if len(value) >= _SHORTEST:
            self._values.add(value)

    def hide(self, text: str) -> str:
        """``text`` with every secret replaced."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"
