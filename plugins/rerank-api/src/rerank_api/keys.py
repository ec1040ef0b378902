"""The key of a provider: from the options, else from its own variables; and keeping it out of sight."""

from __future__ import annotations

import os
from typing import Final

from rerank.errors import AuthenticationError
from rerank_api.options import ApiOptions
from rerank_api.provider import Provider

_SHORTEST: Final = 4
"""Shorter values are words that any message may have."""


def find_key(provider: Provider, options: ApiOptions) -> str | None:
    """The key to use, or None where the provider needs none.

    Raises:
        AuthenticationError: The provider needs a key and there is none, or no header can carry it.
    """
    if options.api_key is not None:
        return options.api_key.get_secret_value()
    for variable in provider.keys:
        if key := os.environ.get(variable, "").strip():
            if not key.isascii() or not key.isprintable():
                raise AuthenticationError(
                    f"the key in {variable} has characters that no header can carry: set it again",
                    provider=provider.name,
                )
            return key
    if provider.key_required and (options.address is None or provider.url is None):
        raise AuthenticationError(f"{provider.name} has no key: {how_to_set(provider)}", provider=provider.name)
    return None


def how_to_set(provider: Provider) -> str:
    """The next step where a key is missing or refused."""
    if not provider.keys and not provider.key_required:
        return f"check the credentials that {provider.name}'s own library finds on this machine"
    return f"set {provider.keys[0]} or pass api_key=" if provider.keys else "pass api_key="


def described(provider: Provider) -> str:
    """One line for ``rerank list-backends``: the provider, and whether a key is set, never which."""
    found = next((variable for variable in provider.keys if os.environ.get(variable, "").strip()), None)
    if found is not None:
        state = f"key set ({found})"
    elif provider.key_required:
        state = f"no key: {how_to_set(provider)}"
    else:
        state = f"no key set ({', '.join(provider.keys)})" if provider.keys else "needs no key of ours"
    return f"{', '.join(provider.names)}: {provider.summary}; {state}"


class Secrets:
    """Values that no message may show: keys, tokens, and the values of headers."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, value: str) -> None:
        """Hide a value from now on; very short ones are no secrets."""
        if len(value) >= _SHORTEST:
            self._values.add(value)

    def hide(self, text: str) -> str:
        """``text`` with every secret replaced."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)})"
