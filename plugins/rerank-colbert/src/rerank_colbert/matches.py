"""Which token of a document each token of a query matched."""

from __future__ import annotations

from typing import Any

import numpy as np

from rerank_colbert.options import ColbertOptions
from rerank_colbert.rows import Query, RowMaker, TextRow
from rerank_vectors import DocumentVectors


def find_matches(
    rows: RowMaker,
    options: ColbertOptions,
    query: Query,
    text: str,
    document: DocumentVectors,
) -> dict[str, Any]:
    """The matches of one document as plain data, for ``Result.details``.

    Of a document that was read in windows, the one that scores best is shown; the first with ``aggregate="first"``.

    Args:
        rows: What made the rows.
        options: The call's.
        query: The query.
        text: The document's text.
        document: Its vectors.

    Returns:
        ``matches``: per compared token of the query, in order, its name (``query``), the name of the document's token with
        the largest product (``document``), where that stands in the text (``start``, ``end``; None for special tokens),
        the product (``score``) and the number of the window. With ``matches="matrix"`` also ``matrix``: the names of all
        compared tokens, the ``spans`` of the document's, and all products.
    """
    products = [query.vectors @ w.astype(np.float32).T for w in document.windows]  # (query_vectors, document_vectors)
    windows = range(1 if options.aggregate == "first" else len(products))
    number = max(windows, key=lambda i: float(products[i].max(axis=1).sum()))
    best = products[number]
    (text_rows, _), *_ = rows.documents([text], options)
    names, spans = _describe(rows, text_rows[number], rows.document_spans(text, options))
    query_names, _ = _describe(rows, query.row, None)
    places = best.argmax(axis=1)  # (query_vectors,)
    matches = [
        {
            "query": name,
            "document": names[place],
            "start": spans[place][0] if spans[place] else None,
            "end": spans[place][1] if spans[place] else None,
            "score": float(best[i, place]),
            "window": number,
        }
        for i, (name, place) in enumerate(zip(query_names, places.tolist()))
    ]
    if options.matches != "matrix":
        return {"matches": matches}
    matrix = {"query": query_names, "document": names, "spans": spans, "scores": best.tolist()}
    return {"matches": matches, "matrix": matrix}


def _describe(
    rows: RowMaker, text_row: TextRow, spans: list[tuple[int, int] | None] | None
) -> tuple[list[str], list[list[int] | None]]:
    """The name of each compared token, and where it stands in its text."""
    compared = [place for place, is_compared in enumerate(text_row.compared) if is_compared]
    names = [rows.tokens.name(text_row.tokens.ids[place]) for place in compared]
    own = [text_row.places[place] for place in compared]
    found = [None if spans is None or place is None else spans[place] for place in own]
    return names, [None if span is None else list(span) for span in found]
