"""For any Python values, every backend that runs a model here returns a ranking or raises a `RerankError`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rerank import Document, RankedResults, Reranker, RerankError

quick = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

any_text = st.text(st.characters(exclude_categories=()), max_size=30)  # lone surrogates among them
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    any_text,
    st.binary(max_size=8),
    st.dates(),
    st.just(object()),
    st.just(print),
    st.sampled_from([RerankError, ..., NotImplemented, range(3), bytearray(b"x"), memoryview(b"x")]),
)
anything: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(iter),
        st.frozensets(st.integers() | any_text, max_size=3),
        st.dictionaries(any_text | st.integers(), inner, max_size=3),
    ),
    max_leaves=8,
)
texts = st.text(max_size=40)
mappings = st.fixed_dictionaries(
    {"text": texts | any_text | anything},
    optional={
        "id": anything,
        "doc_id": st.integers() | any_text,
        "meta": anything,
        "metadata": st.dictionaries(any_text, anything, max_size=2),
        "score": anything,
    },
)
documents = st.builds(Document, text=any_text, doc_id=st.integers() | any_text)
candidates = st.lists(st.one_of(texts, mappings, documents, anything), max_size=5)
queries = st.one_of(texts, anything)


@pytest.fixture(scope="module")
def reranker(local: Any) -> Iterator[Reranker]:
    with local.build() as reranker:
        yield reranker


def check(ranked: Any) -> None:
    assert isinstance(ranked, RankedResults)
    assert [result.rank for result in ranked] == list(range(1, len(ranked) + 1))
    assert all(result.score is not None for result in ranked)
    assert str(ranked)


@quick
@given(query=queries, docs=candidates | anything)
def test_queries_and_documents(reranker: Reranker, query: Any, docs: Any) -> None:
    with contextlib.suppress(RerankError):
        check(reranker.rank(query, docs))


@quick
@given(docs=st.lists(texts, max_size=4), ids=anything, metadata=anything, top_k=anything | st.integers(-2, 5))
def test_ids_metadata_and_top_k(reranker: Reranker, docs: Any, ids: Any, metadata: Any, top_k: Any) -> None:
    for more in ({"doc_ids": ids}, {"metadata": metadata}, {"top_k": top_k}):
        with contextlib.suppress(RerankError):
            check(reranker.rank("bees", docs, **more))


@quick
@given(data=st.data())
def test_options_of_a_call(reranker: Reranker, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(type(reranker.options).model_fields)) | texts
    numbers = st.integers(-2, 600) | st.integers() | st.sampled_from(["max", "mean", "first", "chunk", "truncate"])
    options = data.draw(st.dictionaries(names, anything | numbers, min_size=1, max_size=3))
    options = {name: value for name, value in options.items() if name not in ("query", "docs", "self")}
    with contextlib.suppress(RerankError):
        check(reranker.rank("how do bees find flowers", ["a bee " * 300, "", "shares"], **options))


@quick
@given(requests=st.lists(st.tuples(queries, candidates) | anything, max_size=3), pairs=anything)
def test_many_and_pairs(reranker: Reranker, requests: Any, pairs: Any) -> None:
    with contextlib.suppress(RerankError):
        for ranked in reranker.rank_many(requests):
            check(ranked)
    with contextlib.suppress(RerankError):
        assert all(isinstance(score, float) for score in reranker.score_pairs(pairs))
    for request in requests:
        with contextlib.suppress(RerankError):
            assert isinstance(reranker.score("bees", request), float)


@quick
@given(requests=anything, concurrency=anything | st.integers(-1, 3), query=queries, docs=candidates)
def test_async(reranker: Reranker, requests: Any, concurrency: Any, query: Any, docs: Any) -> None:
    async def ask() -> None:
        with contextlib.suppress(RerankError):
            check(await reranker.arank(query, docs))
        with contextlib.suppress(RerankError):
            async for ranked in reranker.arank_many(requests, concurrency=concurrency):
                check(ranked)

    asyncio.run(ask())


@quick
@given(data=st.data())
def test_construction(local: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A model by any name and any value of any argument; nothing is asked of the network."""
    names = ["model", "backend", "lang", "revision", "token", "cache_dir", "model_type", "api_provider", *OPTIONS]
    given = data.draw(st.dictionaries(st.sampled_from(names), anything | texts, min_size=1, max_size=3))
    arguments = {"model": local.model, "local_files_only": True, **given}
    with contextlib.suppress(RerankError), Reranker(**arguments) as reranker:
        check(reranker.rank("bees", ["a bee", "a share"]))


OPTIONS = ["normalize", "batch_size", "max_length", "threads", "session_options", "providers", "file_name", "dtype"]


@quick
@given(pairs=st.lists(any_text, max_size=3), query=any_text, content=st.binary(max_size=60) | any_text)
def test_the_command(local: Any, run: Callable[..., Any], pairs: Any, query: Any, content: Any) -> None:
    stdin = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    options = [part for pair in pairs for part in ("--option", pair)]
    for kind in ("text", "jsonl", "json", "tsv"):
        ran = run("rank", "--input-format", kind, *local.arguments, *options, "--", query, stdin=stdin)
        assert ran.code in (0, 1, 2)
        assert ran.code == 0 or ran.err
