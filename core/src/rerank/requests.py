"""From the arguments of a call to checked `Request`s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from rerank.documents import DocumentLike, as_document, as_documents, as_fields, as_items, as_query
from rerank.errors import InvalidInputError
from rerank.options import Options, nearest
from rerank.protocols import Request

RankRequest: TypeAlias = tuple[str, Iterable[DocumentLike]] | Mapping[str, Any]
"""A query with its documents, or a mapping of `rerank.Reranker.rank`'s arguments."""

_ARGUMENTS: Final = ("query", "docs", "doc_ids", "metadata", "text_fields")


@dataclass(frozen=True, slots=True)
class RequestMaker:
    """Makes the requests of one call, which share options and ``top_k``.

    Args:
        options: The options given at construction with the call's overrides, validated.
        top_k: How many of the best results to keep per request; None keeps all.
        text_fields: The keys of mappings that make their text, where a request names none.
    """

    options: Options
    top_k: int | None
    text_fields: Sequence[str] = ()

    def make(
        self,
        query: object,
        docs: Iterable[DocumentLike],
        doc_ids: Iterable[str | int] | None = None,
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
        text_fields: Sequence[str] = (),
    ) -> Request:
        """Check the arguments of `rerank.Reranker.rank`.

        Raises:
            InvalidInputError: The query or a document is unusable.
        """
        return Request(
            query=as_query(query),
            documents=as_documents(docs, doc_ids, metadata, as_fields(text_fields) or self.text_fields),
            top_k=self.top_k,
            options=self.options,
        )

    def read(self, given: RankRequest) -> Request:
        """Check one request of `rerank.Reranker.rank_many`.

        Raises:
            InvalidInputError: It is not a request, or its query or a document is unusable.
        """
        if isinstance(given, Mapping):
            arguments = dict(given)
        elif isinstance(given, (tuple, list)) and len(given) == 2:
            arguments = {"query": given[0], "docs": given[1]}
        else:
            raise InvalidInputError(f"{given!r:.80} is not a request: give (query, docs) or a mapping with both")
        if unknown := sorted(map(str, arguments.keys() - {*_ARGUMENTS})):
            near = nearest(unknown[0], _ARGUMENTS)
            hint = f"did you mean {near!r}?" if near else f"its keys are {', '.join(_ARGUMENTS)}"
            raise InvalidInputError(f"a request has the unknown key {unknown[0]!r}: {hint}")
        if missing := sorted({"query", "docs"} - arguments.keys()):
            raise InvalidInputError(f"a request has no {missing[0]!r}: give query and docs")
        return self.make(**arguments)

    def read_all(self, given: Iterable[RankRequest]) -> Iterator[Request]:
        """Check requests lazily, and report a bad one by its position.

        Raises:
            InvalidInputError: As for `read`.
        """
        for position, request in enumerate(given):
            try:
                yield self.read(request)
            except InvalidInputError as error:
                raise InvalidInputError(f"request {position}: {error}") from error


def group_pairs(
    pairs: Iterable[tuple[str, DocumentLike]], text_fields: Sequence[str] = ()
) -> dict[str, dict[int, str]]:
    """Group ``(query, document)`` pairs.

    Args:
        pairs: The pairs.
        text_fields: As for `rerank.documents.as_documents`.

    Returns:
        The texts to score for each query, by the pair's position.

    Raises:
        InvalidInputError: A pair, its query or its document is unusable.
    """
    groups: dict[str, dict[int, str]] = {}
    for position, pair in enumerate(as_items(pairs, "pairs")):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise InvalidInputError(f"pair {position} is not a (query, document) pair: give two texts")
        try:
            query = as_query(pair[0])
            document = as_document(pair[1], where="the document", text_fields=text_fields)
        except InvalidInputError as error:
            raise InvalidInputError(f"pair {position}: {error}") from error
        groups.setdefault(query, {})[position] = document.text
    return groups
