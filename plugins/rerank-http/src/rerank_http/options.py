"""The options of every service: its address, key, timeouts, retries, limits and cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from rerank import Options, Reload, Secrets, without_secrets

_WITH_SECRETS: Final = ("url", "base_url", "proxy", "extra_body")
"""Options that may hold secrets among other things."""


class HttpOptions(Options):
    """Core's options and those of every backend that asks a service over HTTP.

    Args:
        api_key: Takes precedence over the service's environment variables, which ``rerank list-backends`` lists.
        url: The server's address; the service's path is appended if it is missing.
        base_url: Another name for ``url``.
        headers: Sent with every request; their values are kept secret, and left out of pickles.
        proxy: Address of an HTTP proxy; by default ``HTTPS_PROXY`` and related variables apply.
        ca_file: A file of certificates to trust instead of the usual ones. Verification is always on.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for the next part of an answer.
        deadline: Seconds that a call may take in total: waiting for its turn, requests, and retries.
        max_retries: At most this many retries per request.
        backoff: Upper bound of the random wait before the first retry, in seconds; it doubles with each retry.
        max_backoff: Upper bound of that doubling, in seconds.
        retry_budget: Retries per request that the whole reranker may make on average, so that retries do not amplify an
            outage; a reserve of 20 covers short ones.
        max_concurrency: At most this many simultaneous requests, and connections kept.
        requests_per_minute: At most this many, evenly spread; None sets no limit.
        tokens_per_minute: At most this many, estimated at four bytes per token and corrected by the reported usage.
        cache: File to store answers in, so that equal requests are sent once. It contains no requests and no keys.
        cache_max_bytes: Maximum size of that file and its journal together; the oldest answers are deleted first. An answer
            of more than a sixteenth of it is not stored.
        max_answer_bytes: Maximum size of one answer, unpacked; a larger one is an error. None means 4 MiB and eight
            times the request, 64 MiB at most.
        max_answer_depth: How many lists and objects of an answer may lie in each other; a deeper one is an error.
    """

    api_key: Reload[SecretStr | None] = None
    url: Reload[str | None] = None
    base_url: Reload[str | None] = None
    headers: Reload[Mapping[str, SecretStr]] = Field(default_factory=dict)
    proxy: Reload[str | None] = None
    ca_file: Reload[Path | None] = None
    connect_timeout: Reload[float] = Field(default=10.0, gt=0)
    read_timeout: Reload[float] = Field(default=60.0, gt=0)
    deadline: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=5, ge=0)
    backoff: float = Field(default=0.5, gt=0)
    max_backoff: float = Field(default=30.0, gt=0)
    retry_budget: Reload[float] = Field(default=0.5, ge=0)
    max_concurrency: Reload[int] = Field(default=32, ge=1)
    requests_per_minute: Reload[float | None] = Field(default=None, gt=0)
    tokens_per_minute: Reload[float | None] = Field(default=None, gt=0)
    cache: Reload[Path | None] = None
    cache_max_bytes: Reload[int] = Field(default=100 * 2**20, ge=2**16)
    max_answer_bytes: Reload[int | None] = Field(default=None, ge=1)
    max_answer_depth: Reload[int] = Field(default=100, ge=1)

    @property
    def address(self) -> str | None:
        """The server's address, where the user gave one."""
        return self.url or self.base_url

    @property
    def secrets(self) -> Secrets:
        """What no message shows: the key, the headers' values, and what is secret in the body and in addresses."""
        secrets = Secrets()
        if self.api_key is not None:
            secrets.add_header(self.api_key.get_secret_value())
        for value in self.headers.values():
            secrets.add_header(value.get_secret_value())
        secrets.add_body(getattr(self, "extra_body", {}))
        for address in (self.url, self.base_url, self.proxy):
            secrets.add_address(address or "")
        return secrets

    def without_secrets(self) -> dict[str, Any]:
        """As `rerank.Options.without_secrets`; of addresses and ``extra_body``, what is no secret is kept."""
        return {
            name: without_secrets(value, None) if name in _WITH_SECRETS else value
            for name, value in super().without_secrets().items()
        }

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """What ``repr`` shows."""
        return [
            (name, without_secrets(value) if name in _WITH_SECRETS else value)
            for name, value in super().__repr_args__()
        ]

    @model_serializer(mode="wrap")
    def _show_no_secrets(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: without_secrets(value) if name in _WITH_SECRETS else value for name, value in handler(self).items()
        }

    @field_validator("url", "base_url", "proxy")
    @classmethod
    def _is_an_address(cls, given: str | None) -> str | None:
        if given is None:
            return None
        if not given.isprintable() or " " in given:
            raise ValueError("an address must have no white space or control characters")
        try:
            parts = urlsplit(given)
            port = parts.port
        except ValueError:  # its message may show a password
            raise ValueError("an address must have a port from 1 to 65535, or none, and a valid host") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an address must start with http:// or https:// and a host")
        if port == 0:
            raise ValueError("an address must have a port from 1 to 65535, or none")
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "an address with a user or password in it would show in logs: use api_key= or headers=, "
                "and for a proxy the variable HTTPS_PROXY"
            )
        return given

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, given: Mapping[str, SecretStr]) -> Mapping[str, SecretStr]:
        for name, value in given.items():
            text = value.get_secret_value()
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is not a valid header name")
            if name.lower() in ("content-length", "transfer-encoding"):
                raise ValueError(f"{name} belongs to each request's own body: leave it out")
            if not text.isascii() or not text.isprintable() or text != text.strip():
                raise ValueError(
                    f"the value of {name} has white space at its ends, or characters that a header cannot contain"
                )
        return dict(given)

    @field_validator("api_key")
    @classmethod
    def _is_a_key(cls, given: SecretStr | None) -> SecretStr | None:
        text = "" if given is None else given.get_secret_value()
        if not text.isascii() or not text.isprintable() or text != text.strip():
            raise ValueError("the key has white space at its ends, or characters that a header cannot contain")
        return given if text else None

    @model_validator(mode="after")
    def _has_one_address(self) -> HttpOptions:
        if self.url and self.base_url and self.url != self.base_url:
            raise ValueError("url and base_url differ: give one of them")
        return self
