"""The description of a provider: its address, its requests, and how its answers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rerank import ScoreScale
from rerank_api.options import ApiOptions
from rerank_http.wire import Sender, bearer, post_json

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What one HTTP request asks: as many documents as the provider takes at once.

    Args:
        query: The query.
        texts: The documents' texts, at least one.
        model: The model's name, or None if the server runs one of its own.
        top_k: How many results are needed; None means all, as always if the provider has no such field.
        options: The call's options.
    """

    query: str
    texts: Sequence[str]
    model: str | None
    top_k: int | None
    options: ApiOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """What a provider's answer contains, not yet checked.

    Args:
        pairs: ``(index, score)`` per result, as the provider sent them.
        usage: What it bills, by name.
    """

    pairs: Sequence[tuple[Any, Any]]
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a provider's requests go through: the pool, and the address, headers and key to use.

    Args:
        client: The connection pool, with the user's timeouts, proxy and certificates.
        url: Where to post.
        headers: Sent with every request: the key's and the user's own, with lower-case names.
        key: The key, or None.
        model: The model's name, or None if the server runs one of its own.
        options: The options given at construction.
        keep_secret: Call it with every further secret, such as a fetched token, and no message shows it.
    """

    client: httpx.AsyncClient
    url: str
    headers: Mapping[str, str] = field(repr=False)
    key: str | None = field(repr=False)
    model: str | None
    options: ApiOptions
    keep_secret: Callable[[str], None] = field(repr=False)


def post(connection: Connection) -> Sender:
    """The usual way to send: a POST of JSON through the pool."""
    return post_json(connection.client, connection.url, connection.headers)


def bytes_for(tokens: int) -> int:
    """Bytes that hardly have more than so many tokens: two each, where a text of most languages has three or four."""
    return 2 * tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provider:
    """One rerank service.

    Args:
        name: Unique among the providers; a short name for ``Reranker``.
        summary: One line for readers.
        request: The body of a request; fields that are None are left out.
        answer: Reads an answer's body (`read_list` and `read_scores` make such functions).
        scale: What the scores mean, by its documentation; it may depend on the options.
        url: The service's address, which may depend on the model and the options; None if the user must give it.
        path: Appended to the user's or the provider's address if that does not end with it; may depend on the model.
        other_names: Short names besides ``name``.
        models: The default model by language (``other``: any); empty if the server runs one of its own.
        keys: Environment variables that may hold the key, the first one set wins.
        key_required: Whether a key is needed; an address that the user gives may need none.
        authorize: The headers that carry the key.
        headers: Sent with every request besides the key's.
        takes: The provider-specific options (`rerank_api.options.SPECIFIC`) that it supports.
        max_documents: At most this many documents per request, which may depend on the model; None if unknown.
        max_bytes: At most this many bytes per request, of the documents' texts and the query with every one of them; may
            depend on the model; None if unknown. A limit of tokens is given as its `rerank_api.provider.bytes_for`.
        bytes_each: Bytes that every document counts besides those.
        limit_from: Path and field at which a running server reports that limit.
        takes_top_k: Whether it can return only the best results.
        listwise: Whether a model's scores depend on the other documents of the request, so that requests cannot be
            compared.
        connect: Creates the function that sends a request's body; the default one posts JSON.
        rest: The body that asks for the rest of an answer, from the request's body and the answer's; None if it is whole.
    """

    name: str
    summary: str
    request: Callable[[Question], Mapping[str, Any]]
    answer: Callable[[Any, Question], RawAnswer]
    scale: ScoreScale | Callable[[ApiOptions], ScoreScale] = "probability"
    url: str | Callable[[str | None, ApiOptions], str] | None = None
    path: str | Callable[[str | None, ApiOptions], str] = ""
    other_names: tuple[str, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    key_required: bool = True
    authorize: Callable[[str], Mapping[str, str]] = bearer
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    max_documents: int | Callable[[str | None], int] | None = None
    max_bytes: int | Callable[[str | None], int] | None = None
    bytes_each: int = 0
    limit_from: tuple[str, str] | None = None
    takes_top_k: bool = True
    listwise: Callable[[str | None], bool] = lambda model: False
    connect: Callable[[Connection], Sender] = post
    rest: Callable[[Mapping[str, Any], Any], Mapping[str, Any] | None] = lambda body, answer: None

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its other names."""
        return (self.name, *self.other_names)

    def most_documents(self, model: str | None) -> int | None:
        """At most this many documents per request to this model; None if unknown."""
        return self.max_documents(model) if callable(self.max_documents) else self.max_documents

    def most_bytes(self, model: str | None) -> int | None:
        """At most this many bytes of texts per request to this model; None if unknown."""
        return self.max_bytes(model) if callable(self.max_bytes) else self.max_bytes

    def scale_of(self, options: ApiOptions) -> ScoreScale:
        """What the scores mean under these options."""
        return options.score_scale or (self.scale(options) if callable(self.scale) else self.scale)
