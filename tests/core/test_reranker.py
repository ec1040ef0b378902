"""The facade that users of every model see, from loading to closing."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

from rerank import (
    BackendNotFoundError,
    Document,
    InvalidInputError,
    InvalidOptionsError,
    ModelLoadError,
    RankedResults,
    Request,
    Reranker,
    RerankError,
    Scores,
    ScoringError,
)
from rerank.registry import installed
from rerank.testing.fake import FakeScorer, fake_backend, fake_registry

DOCS = ["a cat sat", "a dog ran", "a cat and a dog"]


class Answering:
    """A scorer that does whatever the test says."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def score(self, request: Request) -> Scores:
        scores: Scores = self.answer(request)
        return scores


class Streaming(FakeScorer):
    """Takes requests two at a time, as a scorer that batches across queries would."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        group = []
        for request in requests:
            group.append(request)
            if len(group) == 2:
                yield from map(self.score, group)
                group = []
        yield from map(self.score, group)


class Closing(FakeScorer):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def build(scorer: Any, **options: Any) -> Reranker:
    """A reranker around this scorer."""
    return Reranker("fake", registry=fake_registry(fake_backend(load=lambda model, options: scorer)), **options)


@pytest.fixture
def reranker() -> Iterator[Reranker]:
    with build(FakeScorer()) as reranker:
        yield reranker


def test_rank(reranker: Reranker) -> None:
    ranked = reranker.rank("cat dog", DOCS, doc_ids=["x", "y", "z"], metadata=[{"n": 1}, None, {"n": 3}], top_k=2)
    assert [(r.doc_id, r.rank, r.index, r.score, r.metadata) for r in ranked] == [
        ("z", 1, 2, 1.0, {"n": 3}),
        ("x", 2, 0, 0.5, {"n": 1}),
    ]
    assert (ranked.model, ranked.backend, ranked.query) == ("fake", "fake", "cat dog")


def test_one_document_is_no_special_case(reranker: Reranker) -> None:
    assert [(r.rank, r.index) for r in reranker.rank("cat", ["a cat"])] == [(1, 0)]


def test_no_documents_reach_no_scorer() -> None:
    scorer = FakeScorer()
    with build(scorer) as reranker:
        ranked = reranker.rank("q", [])
        assert (len(ranked), list(ranked), ranked.model) == (0, [], "fake")
        assert reranker.score_pairs([]) == []
        assert list(reranker.rank_many([])) == []
    assert scorer.requests == []


def test_top_k_is_a_hint_to_the_scorer() -> None:
    scorer = FakeScorer()
    with build(scorer) as reranker:
        reranker.rank("q", DOCS, top_k=2)
        reranker.rank("q", DOCS)
    assert [request.top_k for request in scorer.requests] == [2, None]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "2"])
def test_top_k_is_checked_before_anything_is_read(reranker: Reranker, top_k: Any) -> None:
    with pytest.raises(InvalidInputError, match="top_k must be a whole number of at least 1"):
        reranker.rank_many(pytest.fail("read") for _ in [1]) if top_k is None else reranker.rank("q", DOCS, top_k=top_k)


def test_score_is_the_score_of_rank(reranker: Reranker) -> None:
    ranked = reranker.rank("cat dog", DOCS)
    for result in ranked:
        assert reranker.score("cat dog", result.text) == result.score
    assert reranker.score("cat dog", {"text": DOCS[0], "id": 5}) == 0.5
    assert reranker.score(query="cat dog", doc=Document(text=DOCS[0], doc_id=5)) == 0.5
    assert isinstance(reranker.score("cat", "a cat"), float)


def test_pairs_keep_their_order_and_share_their_query() -> None:
    scorer = FakeScorer()
    pairs = [
        ("cat", "a cat"),
        ("dog ran", "a dog"),
        ("cat", "a dog"),
        ["dog ran", {"text": "the dog ran"}],
        ("cat", "a cat"),
    ]
    with build(scorer) as reranker:
        assert reranker.score_pairs(pairs) == [1.0, 0.5, 0.0, 1.0, 1.0]
    assert [(request.query, len(request.documents)) for request in scorer.requests] == [("cat", 3), ("dog ran", 2)]


@pytest.mark.parametrize("pairs", [["ab"], [("a",)], [("a", "b", "c")], [None], [3]])
def test_what_is_no_pair(reranker: Reranker, pairs: Any) -> None:
    with pytest.raises(InvalidInputError, match="pair 0 is not a"):
        reranker.score_pairs(pairs)


@pytest.mark.parametrize(("pair", "message"), [(("", "a"), "query is empty"), (("q", None), "the document is None")])
def test_a_bad_pair_is_named_by_its_position(reranker: Reranker, pair: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"pair 1: .*{message}"):
        reranker.score_pairs([("q", "a"), pair])


def test_a_model_that_only_orders_has_no_score() -> None:
    with build(FakeScorer(), scale="ordinal") as reranker:
        assert [r.index for r in reranker.rank("cat", DOCS)] == [0, 2, 1]
        with pytest.raises(ScoringError, match="fake orders documents and gives them no scores"):
            reranker.score("q", "a")


@pytest.mark.parametrize("scorer", [FakeScorer, Streaming])
def test_rank_many_equals_rank_with_empty_requests_in_between(scorer: Any) -> None:
    requests: list[Any] = [
        ("cat", []),
        ("cat", DOCS),
        ("dog", []),
        ("dog", []),
        ("dog", DOCS[:1]),
        {"query": "cat", "docs": DOCS, "doc_ids": ["x", "y", "z"], "metadata": [None, {"k": 1}, None]},
        ["ran", DOCS[1:]],
        ("cat", []),
    ]
    with build(scorer()) as reranker:
        many = list(reranker.rank_many(requests))
        for request, ranked in zip(requests, many):
            arguments = request if isinstance(request, dict) else {"query": request[0], "docs": request[1]}
            assert ranked == reranker.rank(**arguments)
    assert len(many) == len(requests)


class OnlyStreams(FakeScorer):
    """Cannot score one request alone."""

    def score(self, request: Request) -> Scores:
        raise NotImplementedError

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        return map(super().score, requests)


def test_one_ranking_goes_through_score_and_several_through_score_many() -> None:
    with build(OnlyStreams()) as reranker:
        assert len(list(reranker.rank_many([("cat", DOCS), ("dog", DOCS)]))) == 2
        for call in (lambda: reranker.rank("cat", DOCS), lambda: asyncio.run(reranker.arank("cat", DOCS))):
            with pytest.raises(ScoringError, match="could not score fake: NotImplementedError"):
                call()


def test_the_scorer_is_what_the_backend_loaded() -> None:
    scorer = FakeScorer()
    with build(scorer) as reranker:
        assert reranker.scorer is scorer
    with pytest.raises(RerankError, match="closed"):
        reranker.scorer  # noqa: B018
    loaded = Reranker("fake", registry=fake_registry(fake_backend(load=load_and_count)))
    again = pickle.loads(pickle.dumps(loaded))
    assert isinstance(again.scorer, FakeScorer)
    assert again.scorer is again.scorer


def test_rank_many_of_only_empty_requests() -> None:
    with build(Streaming()) as reranker:
        assert [len(ranked) for ranked in reranker.rank_many([("q", [])] * 3)] == [0, 0, 0]


@pytest.mark.parametrize(("scorer", "ahead"), [(FakeScorer, 1), (Streaming, 2)])
def test_rank_many_is_lazy(scorer: Any, ahead: int) -> None:
    taken: list[int] = []

    def endless() -> Iterator[tuple[str, list[str]]]:
        while True:
            taken.append(1)
            yield "cat", DOCS

    with build(scorer()) as reranker:
        results = reranker.rank_many(endless())
        assert taken == []
        next(results)
        assert len(taken) == ahead


def test_rank_many_takes_options_and_top_k(reranker: Reranker) -> None:
    many = list(reranker.rank_many([("cat", DOCS), ("dog", DOCS)], top_k=1, weight=3.0))
    assert [[r.score for r in ranked] for ranked in many] == [[3.0], [3.0]]


def test_wrong_options_are_reported_at_the_call(reranker: Reranker) -> None:
    with pytest.raises(InvalidOptionsError, match="weigth"):
        reranker.rank_many([], weigth=2)


@pytest.mark.parametrize(
    ("request_given", "message"),
    [
        (None, "is not a request"),
        ("cat", "is not a request"),
        (("cat",), "is not a request"),
        (("cat", DOCS, 3), "is not a request"),
        ({"query": "cat"}, "no 'docs'"),
        ({"docs": DOCS}, "no 'query'"),
        ({"query": "cat", "docs": DOCS, "top_k": 3}, "unknown key 'top_k'"),
        (("", DOCS), "query is empty"),
        (("cat", "a text"), "docs must be a list"),
    ],
)
def test_what_is_not_a_request(reranker: Reranker, request_given: Any, message: str) -> None:
    results = reranker.rank_many([("cat", DOCS), request_given])
    assert len(next(results)) == 3
    with pytest.raises(InvalidInputError, match=message):
        next(results)


def test_an_error_of_the_callers_own_iterator_stays_its_own(reranker: Reranker) -> None:
    def broken() -> Iterator[tuple[str, list[str]]]:
        yield "cat", DOCS
        raise ConnectionError("the database went away")

    results = reranker.rank_many(broken())
    next(results)
    with pytest.raises(ConnectionError, match="the database went away"):
        next(results)


@pytest.mark.parametrize("error", [ValueError("boom"), KeyError("x"), RuntimeError(), StopIteration(), MemoryError()])
def test_what_a_scorer_raises_is_wrapped_with_its_cause(error: Exception) -> None:
    def fail(request: Request) -> Scores:
        raise error

    with build(Answering(fail)) as reranker, pytest.raises(ScoringError, match="backend 'fake'") as caught:
        reranker.rank("q", DOCS)
    if not isinstance(error, StopIteration):
        assert caught.value.__cause__ is error
        assert f"could not score fake: {type(error).__name__}" in str(caught.value)


def test_a_typed_error_passes_as_it_is() -> None:
    error = ScoringError("mine")

    def fail(request: Request) -> Scores:
        raise error

    with build(Answering(fail)) as reranker, pytest.raises(ScoringError) as caught:
        reranker.rank("q", DOCS)
    assert caught.value is error


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda request: Scores(values=[1.0], scale="logit"), "returned 1 values for 3 documents"),
        (lambda request: Scores(values=[1.0] * 4, scale="logit"), "returned 4 values for 3 documents"),
        (lambda request: Scores(values=[float("nan")] * 3, scale="logit"), "document 0 as nan"),
        (lambda request: Scores(values=["a"] * 3, scale="logit"), "the score 'a' of type str"),  # type: ignore[list-item]
        (lambda request: Scores(values=["1.5"] * 3, scale="logit"), "the score '1.5' of type str"),  # type: ignore[list-item]
        (lambda request: Scores(values=[True] * 3, scale="logit"), "the score True of type bool"),
        (lambda request: Scores(values=[{}] * 3, scale="logit"), "of type dict"),  # type: ignore[list-item]
        (lambda request: None, "returned NoneType for a request instead of Scores"),
        (lambda request: [1.0, 2.0, 3.0], "returned list for a request instead of Scores"),
    ],
)
def test_what_is_not_an_answer(answer: Any, message: str) -> None:
    with build(Answering(answer)) as reranker, pytest.raises(ScoringError, match=message):
        reranker.rank("q", DOCS)


class Miscounting(FakeScorer):
    """Answers more or fewer requests than it is asked."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        answers = [self.score(request) for request in requests]
        yield from [*answers, answers[-1]] if self.extra > 0 else answers[:-1]


@pytest.mark.parametrize(("extra", "message"), [(1, "more answers than requests"), (-1, "left 1 requests unanswered")])
def test_a_scorer_that_miscounts_requests(extra: int, message: str) -> None:
    with build(Miscounting(extra)) as reranker, pytest.raises(ScoringError, match=message):
        list(reranker.rank_many([("cat", DOCS), ("dog", DOCS)]))


@pytest.mark.parametrize("error", [OSError("disk"), ImportError("no torch"), MemoryError()])
def test_what_loading_raises_is_wrapped_with_its_cause(error: Exception) -> None:
    def load(model: object, options: object) -> Any:
        raise error

    registry = fake_registry(fake_backend(load=load))
    with pytest.raises(ModelLoadError, match=rf"backend 'fake' could not load fake: {type(error).__name__}") as caught:
        Reranker("fake", registry=registry)
    assert caught.value.__cause__ is error


def test_closing_is_final_and_may_be_repeated() -> None:
    scorer = Closing()
    reranker = build(scorer)
    reranker.close()
    reranker.close()
    assert scorer.closed == 1
    for use in (
        lambda: reranker.rank("q", DOCS),
        lambda: reranker.rank("q", []),
        lambda: reranker.score("q", "a"),
        lambda: list(reranker.rank_many([])),
    ):
        with pytest.raises(RerankError, match="this Reranker of fake is closed: build another"):
            use()


def test_it_is_a_context_manager_that_closes_after_an_error_too() -> None:
    scorer = Closing()
    with pytest.raises(KeyError), build(scorer) as reranker:
        raise KeyError(reranker.model)
    assert scorer.closed == 1


def test_it_pickles_without_its_token_and_loads_again_lazily() -> None:
    LOADED.clear()
    reranker = Reranker(
        "fake", registry=fake_registry(fake_backend(load=load_and_count)), token="hf_secret", weight=2.0
    )
    pickled = pickle.dumps(reranker)
    assert b"hf_secret" not in pickled
    assert len(LOADED) == 1
    again = pickle.loads(pickled)
    assert len(LOADED) == 1
    assert again.rank("cat", DOCS) == reranker.rank("cat", DOCS)
    assert len(LOADED) == 2
    assert LOADED[0].token == "hf_secret"
    assert LOADED[1].token is None
    assert again.options == reranker.options


def test_an_installed_backend_pickles_by_name(site: Site) -> None:
    site.install("fake_slow")  # its functions are lambdas, which do not pickle
    pickled = pickle.dumps(Reranker("slow"))
    assert pickle.loads(pickled).backend == "slow"
    installed().backends.clear()
    with pytest.raises(BackendNotFoundError, match="slow"):
        pickle.loads(pickled)


def test_a_closed_one_stays_closed_through_pickling(reranker: Reranker) -> None:
    reranker = Reranker("fake", registry=fake_registry(fake_backend(load=load_and_count)))
    reranker.close()
    with pytest.raises(RerankError, match="closed"):
        pickle.loads(pickle.dumps(reranker)).rank("q", DOCS)


LOADED: list[Any] = []


def load_and_count(model: Any, options: Any) -> FakeScorer:
    LOADED.append(model)
    return FakeScorer()


def test_threads_load_once_and_agree() -> None:
    again = pickle.loads(pickle.dumps(Reranker("fake", registry=fake_registry(fake_backend(load=load_slowly)))))
    LOADED.clear()
    with ThreadPoolExecutor(8) as pool:
        rankings = list(pool.map(lambda _: again.rank("cat dog", DOCS), range(16)))
    assert len(LOADED) == 1
    assert all(ranked == rankings[0] for ranked in rankings)


def load_slowly(model: Any, options: Any) -> FakeScorer:
    time.sleep(0.02)
    return load_and_count(model, options)


def test_threads_run_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=10)

    def answer(request: Request) -> Scores:
        together.wait()
        return Scores(values=[1.0] * len(request.documents), scale="logit")

    with build(Answering(answer)) as reranker, ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: reranker.rank("q", DOCS), range(4)))) == 4


def test_one_debug_line_a_ranking(caplog: pytest.LogCaptureFixture) -> None:
    def answer(request: Request) -> Scores:
        return Scores(values=[1.0] * len(request.documents), scale="logit", diagnostics={"truncated": 2})

    with build(Answering(answer)) as reranker, caplog.at_level(logging.DEBUG, logger="rerank"):
        reranker.rank("secret query", DOCS)
        list(reranker.rank_many([("q", DOCS), ("q", [])]))
    message = [record.getMessage() for record in caplog.records]
    assert len(message) == 3
    assert message[0].startswith("fake ranked 3 documents, 2 truncated, in ")
    assert message[0].endswith(" ms")
    assert message[2].startswith("fake ranked 0 documents, 0 truncated")
    assert "secret query" not in caplog.text


def test_it_never_prints(capfd: pytest.CaptureFixture[str]) -> None:
    with build(FakeScorer()) as reranker:
        reranker.rank("q", DOCS)
        with pytest.raises(RerankError):
            reranker.rank("q", [None])  # type: ignore[list-item]
    assert capfd.readouterr() == ("", "")


def test_repr() -> None:
    assert repr(build(FakeScorer())) == "Reranker('fake', backend='fake')"


def test_a_reranker_that_is_let_go_leaves_no_cycle() -> None:
    import weakref

    scorer = FakeScorer()
    alive = weakref.ref(scorer)
    gc.disable()
    try:
        reranker = build(scorer)
        del reranker, scorer
        assert alive() is None
    finally:
        gc.enable()


def test_results_are_of_one_type_whatever_runs(reranker: Reranker) -> None:
    assert type(reranker.rank("q", DOCS)) is RankedResults


def test_pairs_are_all_scored() -> None:
    with build(FakeScorer()) as reranker, pytest.raises(InvalidOptionsError, match="leave top_k out"):
        reranker.score_pairs([("cat", "a cat"), ("dog", "a cat")], top_k=1)


def test_threads_share_one_discovery() -> None:
    from rerank import registry

    registry._discovered.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        assert len({id(found) for found in pool.map(lambda _: registry.installed(), range(8))}) == 1


def test_a_short_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nano").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendNotFoundError, match="pip install rerank-nano"):
        Reranker(registry=fake_registry())


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("rank", {"query": "q", "passages": DOCS}, "rank takes no 'passages': did you mean 'docs'?"),
        ("rank", {"query": "q", "documents": DOCS}, "rank takes no 'documents': did you mean 'docs'?"),
        ("rank", {"query": "q", "texts": DOCS}, "rank takes no 'texts': did you mean 'docs'?"),
        ("rank", {"query": "q", "candidates": DOCS}, "rank takes no 'candidates': did you mean 'docs'?"),
        ("rank", {"query": "q", "document": DOCS}, "rank takes no 'document': did you mean 'docs'?"),
        ("rank", {"query": "q", "dcos": DOCS}, "rank takes no 'dcos': did you mean 'docs'?"),
        ("rank", {"query_text": "q", "docs": DOCS}, "rank takes no 'query_text': did you mean 'query'?"),
        ("rank", {"question": "q", "docs": DOCS}, "rank takes no 'question': did you mean 'query'?"),
        ("arank", {"query": "q", "passages": DOCS}, "arank takes no 'passages': did you mean 'docs'?"),
        ("score", {"query": "q", "document": "d"}, "score takes no 'document': did you mean 'doc'?"),
        ("score", {"query": "q", "passages": "d"}, "score takes no 'passages': did you mean 'doc'?"),
        ("ascore", {"query": "q", "text": "d"}, "ascore takes no 'text': did you mean 'doc'?"),
    ],
)
def test_an_argument_by_the_name_of_another_library_is_named(method: str, given: dict[str, Any], message: str) -> None:
    async def call(reranker: Reranker) -> None:
        await getattr(reranker, method)(**given)

    with build(FakeScorer()) as reranker, pytest.raises(InvalidOptionsError, match=f"^{re.escape(message)}$"):
        asyncio.run(call(reranker))


def test_a_missing_argument_is_pythons_own_error() -> None:
    with build(FakeScorer()) as reranker:
        for method in (reranker.rank, reranker.score):
            with pytest.raises(TypeError, match="missing 1 required positional argument: 'doc"):
                method("q")  # type: ignore[call-arg]
            with pytest.raises(TypeError, match="missing 2 required positional arguments: 'query' and 'doc"):
                method(batch_size=2)  # type: ignore[call-arg]
