"""The key of a service, from the options or the service's environment variables."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rerank import AuthenticationError
from rerank_http.options import HttpOptions


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
