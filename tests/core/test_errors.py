"""Errors can be caught by base class, have the attributes that they document, and survive pickling."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from rerank import InvalidInputError, InvalidOptionsError, ProviderError, RateLimitError, RerankError, errors
from rerank.errors import BackendNotFoundError

KINDS = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, RerankError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickle_and_copy(kind: type[RerankError]) -> None:
    more = {"provider": "acme", "status": 500, "request_id": "r-1"} if issubclass(kind, ProviderError) else {}
    error = kind("what went wrong: do this", **more)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is kind
        assert str(again) == "what went wrong: do this"
        assert {name: getattr(again, name) for name in more} == more


def test_a_rate_limit_keeps_how_long_to_wait() -> None:
    error = RateLimitError("slow down: wait", provider="acme", status=429, retry_after=2.5)
    assert pickle.loads(pickle.dumps(error)).retry_after == error.retry_after == 2.5


def test_builtin_branches_catch_them_too() -> None:
    assert issubclass(InvalidInputError, ValueError)
    assert issubclass(InvalidOptionsError, ValueError)
    assert issubclass(BackendNotFoundError, LookupError)
