"""Every error this project raises, as a tree; catch the branch you can act on.

```text
RerankError
├── PluginError                      a plugin cannot be used (broken, duplicate name, other protocol)
├── BackendNotFoundError             no installed backend can run the model          (also a LookupError)
├── DocumentNotFoundError            no result has the requested id                   (also a KeyError)
├── AmbiguousModelError              several backends claim the model equally
├── InvalidOptionsError              an option is unknown or has a wrong value       (also a ValueError)
├── InvalidInputError                a query, document, id or argument is unusable   (also a ValueError)
├── ModelLoadError                   the checkpoint cannot be found, read or trusted
└── ScoringError                     a loaded model failed to score
    ├── OutOfMemoryError             one document alone does not fit
    ├── MalformedRankingError        a language model's answer could not be read as a ranking
    └── ProviderError                a service answered with an error (status, provider, request_id)
        ├── AuthenticationError
        ├── RateLimitError           (retry_after, in seconds)
        └── ProviderTimeoutError
```

Every message says what was wrong with which input and ends with the next step.
"""

from __future__ import annotations

from functools import partial
from typing import Any


class RerankError(Exception):
    """The base class of every error that this project raises."""


def is_failure(error: BaseException) -> bool:
    """Whether an exception says that code failed: any but a request to stop, and the panics of extensions in Rust.

    Such a panic is no ``Exception``: tokenizers raises one for a damaged table of characters, for example.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


class PluginError(RerankError):
    """A plugin cannot be used."""


class BackendNotFoundError(RerankError, LookupError):
    """No installed backend has the requested name, or none can run the model."""


class DocumentNotFoundError(RerankError, KeyError):
    """No result has the requested id."""

    __str__ = Exception.__str__  # a KeyError shows the repr of its message


class AmbiguousModelError(RerankError):
    """Several backends claim the model with equal confidence."""


class InvalidOptionsError(RerankError, ValueError):
    """An option is unknown, has a wrong value, or cannot change after loading."""


class InvalidInputError(RerankError, ValueError):
    """A query, document, id or argument is unusable."""


class ModelLoadError(RerankError):
    """The checkpoint cannot be found, read or trusted."""


class ScoringError(RerankError):
    """A loaded model failed to score, or returned invalid scores."""


class OutOfMemoryError(ScoringError):
    """One document alone does not fit into memory."""


class MalformedRankingError(ScoringError):
    """A language model's answer could not be read as a ranking."""


class ProviderError(ScoringError):
    """A hosted or self-hosted service answered with an error.

    Args:
        message: What went wrong and what to do next.
        provider: The provider's name, such as ``"cohere"``.
        status: The HTTP status, or None if no response arrived.
        request_id: The provider's identifier of the request, if it sent one.
    """

    def __init__(
        self, message: str, *, provider: str, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), provider=self.provider), self.args, self.__dict__


class AuthenticationError(ProviderError):
    """The key is missing, wrong or not allowed to do this."""


class RateLimitError(ProviderError):
    """The provider asks to slow down; ``retry_after`` is the wait in seconds, or None if it gave none."""

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider, status=status, request_id=request_id)
        self.retry_after = retry_after


class ProviderTimeoutError(ProviderError):
    """No answer came within the deadline."""
