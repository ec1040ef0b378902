"""Documented limits per request, against servers that refuse more: what they exclude is split and merged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_ranking import score
from loopback import Hit, Loopback, Response

from rerank import Reranker
from rerank_api.limit import split

DOCUMENTS = [
    ("cohere", None, 1000), ("azure-cohere", None, 1000), ("voyage", None, 1000), ("infinity", None, 2048),
    ("pinecone", "bge-reranker-v2-m3", 100), ("pinecone", "pinecone-rerank-v0", 100), ("pinecone", "cohere-rerank-3.5", 200),
    ("nvidia", None, 512), ("vertex", None, 200), ("bedrock", "arn:aws:bedrock:us-west-2::foundation-model/m", 1000),
    ("dashscope", "qwen3-rerank", 500), ("dashscope", "gte-rerank-v2", 500), ("dashscope", "qwen3-vl-rerank", 100),
]  # fmt: skip
TOKENS = [
    ("voyage", "rerank-2.5", 600_000), ("voyage", "rerank-2-lite", 600_000), ("voyage", "rerank-1", 300_000),
    ("voyage", "rerank-lite-1", 300_000), ("contextual", "ctxl-rerank-v2-instruct-multilingual", 400_000),
    ("dashscope", "qwen3-rerank", 120_000), ("dashscope", "gte-rerank-v2", 30_000),
]  # fmt: skip


def texts_in(body: dict[str, Any]) -> list[str]:
    found = next(body[name] for name in ("documents", "passages", "records", "sources") if name in body)
    if "sources" in body:
        return [source["inlineDocumentSource"]["textDocument"]["text"] for source in found]
    return [one if isinstance(one, str) else one.get("text") or one["content"] for one in found]


def answer(hit: Hit, texts: list[str]) -> Response:
    """An answer in whichever shape the request is."""
    ranked = [(index, score("q", text)) for index, text in enumerate(texts)]
    names = {"rankings": "logit", "data": "score", "results": "relevance_score"}
    if "sources" in hit.body:
        return Response({"results": [{"index": i, "relevanceScore": s} for i, s in ranked]})
    if "records" in hit.body:
        return Response({"records": [{"id": str(i), "score": s} for i, s in ranked]})
    return Response(
        {list_: [{"index": i, name: s, "relevance_score": s} for i, s in ranked] for list_, name in names.items()}
    )


def connect(provider: str, model: str | None, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> Reranker:
    options: dict[str, Any] = {"project": "p"} if provider == "vertex" else {}
    if provider == "bedrock":
        pytest.importorskip("botocore", reason="signs the requests")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key-1234")
    else:
        options["api_key"] = "key-1234"
    return Reranker(model or "m", api_provider=provider, url=server.url, **options)


@pytest.mark.parametrize(("provider", "model", "limit"), DOCUMENTS)
def test_documents(
    provider: str, model: str | None, limit: int, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    def handler(hit: Hit) -> Response:
        texts = texts_in(hit.body)
        return answer(hit, texts) if len(texts) <= limit else Response({"message": "too many documents"}, 400)

    server.handler = handler
    documents = [f"text {n}" for n in range(2 * limit + 1)]
    with connect(provider, model, server, monkeypatch) as reranker:
        results = reranker.rank("q", documents)
    assert [r.text for r in results] == sorted(documents, key=lambda text: -score("q", text))
    assert sorted(len(texts_in(hit.body)) for hit in server.hits) == [1, limit, limit]
    assert results.diagnostics["split"] == 3
    assert results.diagnostics["comparable"]


@pytest.mark.parametrize("text", ["word " * 400, "很长的中文文本。" * 120], ids=["English", "Chinese"])
@pytest.mark.parametrize(("provider", "model", "limit"), TOKENS)
def test_tokens(
    provider: str, model: str, limit: int, text: str, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "a rather long question " * 8

    def handler(hit: Hit) -> Response:
        texts = texts_in(hit.body)
        tokens = sum(tokens_of(query) + tokens_of(one) for one in texts)
        return answer(hit, texts) if tokens <= limit else Response({"detail": "too many tokens"}, 400)

    server.handler = handler
    documents = [f"{n} {text}" for n in range(900)]
    with connect(provider, model, server, monkeypatch) as reranker:
        results = reranker.rank(query, documents)
    assert len(results) == 900
    assert results.diagnostics["split"] == len(server.hits) > 1


def tokens_of(text: str) -> int:
    """More tokens than a tokenizer finds: one per four letters and one per Chinese character."""
    ascii_letters = sum(letter.isascii() for letter in text)
    return ascii_letters // 4 + len(text) - ascii_letters


def test_bytes(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    query = "q" * 350

    def handler(hit: Hit) -> Response:
        texts = texts_in(hit.body)
        size = sum(150 + len(query.encode()) + len(text.encode()) for text in texts)
        return answer(hit, texts) if size <= 5_000_000 else Response({"detail": "payload too large"}, 413)

    server.handler = handler
    documents = [f"{n:05d}" + "é" * 5_000 for n in range(700)]  # 10,505 bytes each with the query
    with connect("zeroentropy", "zerank-2", server, monkeypatch) as reranker:
        results = reranker.rank(query, documents)
    assert len(results) == 700
    assert sorted(len(hit.body["documents"]) for hit in server.hits) == [700 - 475, 475]


def test_bytes_of_a_body(server: Loopback) -> None:
    def handler(hit: Hit) -> Response:
        if hit.path == "/info":
            return Response({"max_client_batch_size": 4096})
        if len(json.dumps(hit.body, ensure_ascii=False).encode()) > 2_000_000:
            return Response({"error": "length limit exceeded"}, 413)
        return Response([{"index": i, "score": score("q", text)} for i, text in enumerate(hit.body["texts"])])

    server.handler = handler
    documents = [f"{n:05d}" + "日本語\n" * 200 for n in range(2000)]  # 4 MB
    with Reranker("tei", url=server.url) as reranker:
        results = reranker.rank("how long is a text?", documents)
    assert len(results) == 2000
    assert results.diagnostics["split"] == 3


def test_what_is_counted_with_every_text() -> None:
    assert list(split("query", ["a", "é", "c"], documents=9, size=2 * (5 + 2) + 20, each=10)) == [["a", "é"], ["c"]]
    assert list(split("query", ["a", "é", "c"], documents=9, size=2 * (5 + 2) + 18, each=10)) == [["a"], ["é"], ["c"]]


def test_one_text_that_is_too_large_goes_alone() -> None:
    texts = ["a", "b" * 1000, "c", "d"]
    assert list(split("q", texts, documents=10, size=4)) == [["a"], ["b" * 1000], ["c", "d"]]
    assert list(split("q", texts, documents=3, size=None)) == [texts[:3], texts[3:]]
    assert list(split("q", texts, documents=4, size=10**6)) == [texts]
