"""A rerank service for the loopback server: it really ranks, by a number that belongs to each pair alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from loopback import Hit, Response


def score(query: str, text: str) -> float:
    """A number in [0, 1) that belongs to this pair alone."""
    digest = hashlib.blake2b(f"{query}\0{text}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def ranked(query: str, texts: Iterable[str], top_n: int | None) -> list[tuple[int, float]]:
    """``(index, score)`` pairs, best first."""
    pairs = sorted(((i, score(query, text)) for i, text in enumerate(texts)), key=lambda pair: (-pair[1], pair[0]))
    return pairs[:top_n]


def rerank(hit: Hit) -> Response:
    """A server that really ranks, in Cohere's and everyone's shape, and in TEI's."""
    if hit.method == "GET":
        return Response({"model_id": "loopback", "max_client_batch_size": 4})
    body = hit.body
    if "texts" in body:
        return Response([{"index": i, "score": s} for i, s in ranked(body["query"], body["texts"], None)])
    pairs = ranked(body["query"], body["documents"], body.get("top_n"))
    return Response(
        {
            "id": "loopback-1",
            "model": body.get("model"),
            "results": [{"index": i, "relevance_score": s} for i, s in pairs],
            "usage": {"total_tokens": 10 * len(body["documents"])},
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        }
    )
