"""The contract kit passes correct scorers, and fails each incorrect one in the test that covers its fault."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import field_validator

from rerank import Claim, Confidence, ModelLoadError, ModelRef, Options, Request, Reranker, Scores, ScoringError
from rerank.testing.contract import BackendContract
from rerank.testing.fake import FakeScorer, fake_backend, fake_registry


class Streaming(FakeScorer):
    """With ``score_many``."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        return map(self.score, requests)


class Native(FakeScorer):
    """With ``ascore``."""

    async def ascore(self, request: Request) -> Scores:
        await asyncio.sleep(0)
        return self.score(request)


class Calibrating(FakeScorer):
    """With ``calibrate``."""

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        return [value / 2 for value in values]


class Everything(Streaming, Native, Calibrating):
    """With every refinement, and ``close``."""

    def close(self) -> None:
        self.requests.clear()


def build(scorer: Callable[[], Any], **options: Any) -> Reranker:
    return Reranker("fake", registry=fake_registry(fake_backend(load=Load(scorer))), **options)


class Load:
    """A `Backend.load` that pickles."""

    def __init__(self, scorer: Callable[[], Any]) -> None:
        self.scorer = scorer

    def __call__(self, model: object, options: object) -> Any:
        return self.scorer()


class TestPlain(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(FakeScorer)


class TestStreaming(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(Streaming)


class TestNative(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(Native)


class TestCalibrating(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(Calibrating, scale="similarity")


class TestEverything(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(Everything, scale="probability")


class TestSimilarity(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(FakeScorer, scale="similarity")


class TestOrdinal(BackendContract):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return build(FakeScorer, scale="ordinal")


class ByBatch(FakeScorer):
    """A score moves with the number of documents."""

    def score(self, request: Request) -> Scores:
        scores = super().score(request)
        return Scores(values=[(v or 0) + 0.01 * len(request.documents) for v in scores.values], scale="logit")


class ByPosition(FakeScorer):
    """A score moves with the place among the candidates."""

    def score(self, request: Request) -> Scores:
        scores = super().score(request)
        return Scores(values=[(v or 0) + 0.01 * i for i, v in enumerate(scores.values)], scale="logit")


class BySize(FakeScorer):
    """A score moves with ``batch_size``."""

    def score(self, request: Request) -> Scores:
        shift = 0.01 * (request.options.batch_size or 0)
        return Scores(values=[(v or 0) + shift for v in super().score(request).values], scale="logit")


class TooFew(FakeScorer):
    """Equal texts collapse."""

    def score(self, request: Request) -> Scores:
        texts = {document.text for document in request.documents}
        return Scores(values=[float(len(text)) for text in texts], scale="logit")


class NotANumber(FakeScorer):
    """Half precision overflows."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[math.nan] * len(request.documents), scale="logit")


class ScoreRaises(FakeScorer):
    """``score`` was never written, for ``score_many`` and ``ascore`` were thought to do."""

    def score(self, request: Request) -> Scores:
        raise NotImplementedError

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        return map(super().score, requests)

    async def ascore(self, request: Request) -> Scores:
        return super().score(request)


class ScoreDiffers(ScoreRaises):
    """``score`` is another formula than ``score_many`` and ``ascore``."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[0.123] * len(request.documents), scale="logit")


class ScaleDiffers(FakeScorer):
    """``score_many`` and ``ascore`` map the scores, and ``score`` does not."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        return (replace(self.score(request), scale="probability") for request in requests)

    async def ascore(self, request: Request) -> Scores:
        return replace(self.score(request), scale="probability")


class ManyDropsTheLast(FakeScorer):
    """``score_many`` keeps its last group."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        yield from [self.score(request) for request in requests][:-1]


class AsyncRaises(FakeScorer):
    """``ascore`` was never written."""

    async def ascore(self, request: Request) -> Scores:
        raise NotImplementedError


class ManyDiffers(FakeScorer):
    """``score_many`` pairs answers with the wrong requests."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        answers = [self.score(request) for request in requests]
        for position, answer in enumerate(answers):
            shift = 0.5 * (position % 2)
            yield Scores(values=[(v or 0) + shift for v in answer.values], scale=answer.scale)


class Greedy(FakeScorer):
    """``score_many`` reads everything before it answers."""

    def score_many(self, requests: Iterable[Request]) -> Iterator[Scores]:
        taken = []
        for request in requests:
            taken.append(request)
            if len(taken) > 10_000:
                break
        return map(self.score, taken)


class AsyncDiffers(FakeScorer):
    """``ascore`` is another formula."""

    async def ascore(self, request: Request) -> Scores:
        return Scores(values=[0.123] * len(request.documents), scale="logit")


class Unbounded(FakeScorer):
    """``calibrate`` leaves [0, 1]."""

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        return [2 + value for value in values]


class UpsideDown(FakeScorer):
    """``calibrate`` is not a number for some."""

    def calibrate(self, values: Sequence[float], options: Options) -> Sequence[float]:
        return [math.nan for _ in values]


class NotThreadSafe(FakeScorer):
    """Keeps the query in an attribute, as a tokenizer keeps its truncation."""

    def score(self, request: Request) -> Scores:
        import time

        self.calls = getattr(self, "calls", 0) + 1
        mine = self.calls
        time.sleep(0.01)
        shift = 0.0 if self.calls == mine else 1.0
        return Scores(values=[(v or 0) + shift for v in super().score(request).values], scale="logit")


class Mutating(FakeScorer):
    """Writes into the caller's own metadata."""

    def score(self, request: Request) -> Scores:
        for document in request.documents:
            for value in document.metadata.values():
                if isinstance(value, list):
                    value.append("seen")
        return super().score(request)


class Unplain(FakeScorer):
    """Details that survive no JSON."""

    def score(self, request: Request) -> Scores:
        scores = super().score(request)
        return Scores(values=scores.values, scale="logit", details=[{"tokens": {1, 2}}] * len(request.documents))


class TopKOnly(FakeScorer):
    """With ``top_k`` it keeps the first, not the best."""

    def score(self, request: Request) -> Scores:
        values: list[float | None] = list(super().score(request).values)
        if request.top_k is not None:
            values[request.top_k :] = [None] * (len(values) - request.top_k)
            values = [None if value is None else value - index for index, value in enumerate(values)]
        return Scores(values=values, scale="logit")


class Constant(FakeScorer):
    """One score for every document."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[0.5] * len(request.documents), scale="logit")


class AsText(FakeScorer):
    """Scores as text."""

    def score(self, request: Request) -> Scores:
        return replace(super().score(request), values=[str(value) for value in super().score(request).values])


class Reversed(FakeScorer):
    """Scores with the wrong sign."""

    def score(self, request: Request) -> Scores:
        return replace(super().score(request), values=[-(value or 0) for value in super().score(request).values])


class ByLength(FakeScorer):
    """Scores that only say how long a document is."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[float(len(document.text)) for document in request.documents], scale="logit")


class ByBothLengths(FakeScorer):
    """Scores that say how long query and document are."""

    def score(self, request: Request) -> Scores:
        lengths = [float(len(request.query) + len(document.text)) for document in request.documents]
        return Scores(values=lengths, scale="logit")


class FirstAnswers(FakeScorer):
    """Keeps a document's score, and forgets for which query."""

    def score(self, request: Request) -> Scores:
        self.kept: dict[str, float | None] = getattr(self, "kept", {})
        for document, value in zip(request.documents, super().score(request).values):
            self.kept.setdefault(document.text, value)
        return Scores(values=[self.kept[document.text] for document in request.documents], scale="logit")


class Random(FakeScorer):
    """Another score each time."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[random.random() for _ in request.documents], scale="logit")


class InOrder(FakeScorer):
    """Leaves the candidates as they come."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[-float(place) for place in range(len(request.documents))], scale="logit")


class Infinite(FakeScorer):
    """Half precision overflows."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[math.inf] * len(request.documents), scale="logit")


class Nothing(FakeScorer):
    """No document has a score."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[None] * len(request.documents), scale="logit")


class Returnless(FakeScorer):
    """Forgets to return."""

    def score(self, request: Request) -> Scores:
        return None  # type: ignore[return-value]


class TooMany(FakeScorer):
    """A score for the query too."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[0.0, *super().score(request).values], scale="logit")


class ByIdentifier(FakeScorer):
    """Reads the identifier as text."""

    def score(self, request: Request) -> Scores:
        values = super().score(request).values
        return Scores(values=[(v or 0) + len(str(d.doc_id)) for d, v in zip(request.documents, values)], scale="logit")


class EmptiesTheRequest(FakeScorer):
    """Uses the caller's list up."""

    def score(self, request: Request) -> Scores:
        scores = super().score(request)
        request.documents.clear()  # type: ignore[attr-defined]
        return scores


class Chatty(FakeScorer):
    """Says what it does."""

    def score(self, request: Request) -> Scores:
        print("scoring", len(request.documents))
        return super().score(request)


class Seeds(FakeScorer):
    """Makes everybody's random numbers its own."""

    def score(self, request: Request) -> Scores:
        random.seed(len(self.requests))
        return super().score(request)


class SetsTheEnvironment(FakeScorer):
    """Configures a library through the process."""

    def score(self, request: Request) -> Scores:
        os.environ["A_LIBRARY_S_SETTING"] = str(len(self.requests))
        return super().score(request)


class Untyped(FakeScorer):
    """Fails on texts that it did not expect."""

    def score(self, request: Request) -> Scores:
        if any(len(document.text) > 10_000 for document in request.documents):
            raise ValueError("too long")
        return super().score(request)


class FailsToClose(FakeScorer):
    """``close`` is of use only once."""

    def close(self) -> None:
        if vars(self).setdefault("closed", False):
            raise ValueError("closed already")
        raise ValueError("cannot close")


class ClosesForAll(FakeScorer):
    """One handle for the whole process."""

    is_open = True

    def __init__(self) -> None:
        super().__init__()
        type(self).is_open = True

    def score(self, request: Request) -> Scores:
        if not self.is_open:
            raise ScoringError("closed: open it again")
        return super().score(request)

    def close(self) -> None:
        type(self).is_open = False


class Percent(FakeScorer):
    """Probabilities in hundredths."""

    def score(self, request: Request) -> Scores:
        return Scores(values=[100 * (v or 0) for v in super().score(request).values], scale="probability")


BROKEN: list[tuple[type[FakeScorer], str]] = [
    (ByLength, "test_scores_depend_on_the_query"),
    (ByBothLengths, "test_scores_depend_on_the_query"),
    (FirstAnswers, "test_scores_depend_on_the_query"),
    (Random, "test_scores_do_not_depend_on_order"),
    (Random, "test_threads_agree"),
    (InOrder, "test_scores_do_not_depend_on_order"),
    (Infinite, "test_ranks_every_document_once"),
    (Nothing, "test_scores_are_numbers"),
    (Returnless, "test_ranks_every_document_once"),
    (TooMany, "test_ranks_every_document_once"),
    (ByIdentifier, "test_kinds_of_documents_agree"),
    (EmptiesTheRequest, "test_ranks_every_document_once"),
    (Seeds, "test_leaves_the_process_as_it_was"),
    (SetsTheEnvironment, "test_leaves_the_process_as_it_was"),
    (Untyped, "test_hard_texts_give_a_result_or_a_typed_error"),
    (FailsToClose, "test_close_is_final_and_may_be_repeated"),
    (ClosesForAll, "test_close_is_final_and_may_be_repeated"),
    (Percent, "test_normalized_scores_lie_between_0_and_1_in_the_same_order"),
    (Constant, "test_scores_tell_documents_apart"),
    (AsText, "test_scores_are_numbers"),
    (ByBatch, "test_scores_do_not_depend_on_the_rest_of_the_batch"),
    (ByPosition, "test_scores_do_not_depend_on_order"),
    (BySize, "test_batch_size_changes_nothing"),
    (TooFew, "test_equal_texts_stay_apart"),
    (NotANumber, "test_ranks_every_document_once"),
    (ScoreRaises, "test_ranks_every_document_once"),
    (ScoreRaises, "test_score_many_equals_score"),
    (ScoreRaises, "test_native_async_equals_score"),
    (ScoreDiffers, "test_rank_many_equals_rank"),
    (ScoreDiffers, "test_async_equals_sync"),
    (ScoreDiffers, "test_score_many_equals_score"),
    (ScoreDiffers, "test_native_async_equals_score"),
    (ScaleDiffers, "test_score_many_equals_score"),
    (ScaleDiffers, "test_native_async_equals_score"),
    (ManyDiffers, "test_rank_many_equals_rank"),
    (ManyDiffers, "test_score_many_equals_score"),
    (ManyDropsTheLast, "test_rank_many_equals_rank"),
    (ManyDropsTheLast, "test_score_many_equals_score"),
    (Greedy, "test_score_many_is_lazy"),
    (AsyncDiffers, "test_native_async_equals_score"),
    (AsyncRaises, "test_async_equals_sync"),
    (AsyncRaises, "test_native_async_equals_score"),
    (Unbounded, "test_normalized_scores_lie_between_0_and_1_in_the_same_order"),
    (UpsideDown, "test_normalized_scores_lie_between_0_and_1_in_the_same_order"),
    (NotThreadSafe, "test_threads_agree"),
    (Mutating, "test_inputs_are_left_alone"),
    (Unplain, "test_results_are_plain_data"),
    (TopKOnly, "test_top_k_is_the_head_of_the_ranking"),
]


def check(name: str, reranker: Reranker) -> None:
    """One test of the kit, run by hand."""
    result = getattr(BackendContract(), name)(reranker)
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize(("scorer", "name"), BROKEN)
def test_the_kit_fails_what_is_broken(scorer: type[FakeScorer], name: str) -> None:
    check(name, build(FakeScorer) if name not in NEEDS else build(NEEDS[name]))
    with pytest.raises(Exception) as caught:
        check(name, build(scorer))
    assert not isinstance(caught.value, pytest.skip.Exception)


NEEDS: dict[str, type[FakeScorer]] = {
    "test_score_many_equals_score": Streaming,
    "test_score_many_is_lazy": Streaming,
    "test_native_async_equals_score": Native,
}
"""Tests that plain scorers skip, with one that has the capability."""


def test_a_capability_that_is_absent_is_skipped_with_the_reason() -> None:
    for name, reason in (
        ("test_score_many_equals_score", "no score_many"),
        ("test_score_many_is_lazy", "no score_many"),
        ("test_native_async_equals_score", "ascore"),
    ):
        with pytest.raises(pytest.skip.Exception, match=reason):
            check(name, build(FakeScorer))


def test_a_model_that_depends_on_the_batch_may_say_so() -> None:
    contract = BackendContract()
    contract.batch_invariant = False  # type: ignore[misc]
    with pytest.raises(pytest.skip.Exception, match="depend on the rest"):
        contract.test_scores_do_not_depend_on_the_rest_of_the_batch(build(ByBatch))


def test_a_model_that_depends_on_the_batch_still_keeps_its_scale() -> None:
    contract = BackendContract()
    contract.batch_invariant = False  # type: ignore[misc]
    contract.test_score_many_equals_score(build(ManyDiffers))
    contract.test_native_async_equals_score(build(AsyncDiffers))
    with pytest.raises(AssertionError):
        contract.test_score_many_equals_score(build(ScaleDiffers))


def test_the_fixture_must_be_given() -> None:
    with pytest.raises(NotImplementedError, match="define a fixture called reranker"):
        BackendContract.reranker.__wrapped__(BackendContract())  # type: ignore[attr-defined]


class Judged(BackendContract):
    better = ("bees and flowers", "Bees visit flowers.", "The market rose.")


def test_scores_with_the_wrong_sign_fail_where_the_class_names_the_better_document() -> None:
    Judged().test_the_better_document_wins(build(FakeScorer))
    with pytest.raises(AssertionError, match=r"'The market rose\.' came before .*: higher scores must be better"):
        Judged().test_the_better_document_wins(build(Reversed))
    with pytest.raises(pytest.skip.Exception, match="set better"):
        check("test_the_better_document_wins", build(Reversed))


def test_what_depends_on_the_batch_is_told_of_both_attributes() -> None:
    for scorer, name in BROKEN:
        if scorer in (ByBatch, ByPosition, BySize):
            with pytest.raises(AssertionError, match=r"set batch_invariant = False in the class; .* raise tolerance"):
                check(name, build(scorer))


@pytest.mark.parametrize(
    "greedy",
    [
        "everything",
        "names of others",
        "rerankers by name",
        "an owner's",
        "files of others",
        "folders",
        "architectures of others",
        "causal language models",
        "graphs",
        "GGUF files",
        "embeddings",
        "names of an owner of cross-encoders",
        "pickled weights",
        "short names of services",
    ],
)
def test_a_backend_that_claims_what_it_cannot_run_fails(
    greedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def claim(model: ModelRef) -> Claim:
        fits = {
            "everything": lambda: True,
            "names of others": lambda: model.name == "ms-marco-MiniLM-L-12-v2",
            "rerankers by name": lambda: "rerank" in model.name,
            "an owner's": lambda: model.name.startswith("BAAI/"),
            "files of others": lambda: model.is_local and "model.safetensors" in model.files,
            "folders": lambda: model.is_local,
            "causal language models": lambda: model.is_local and "CausalLM" in str(model.config.get("architectures")),
            "graphs": lambda: model.is_local and any(file.endswith(".onnx") for file in model.files),
            "GGUF files": lambda: model.gguf_file is not None,
            "embeddings": lambda: model.is_local and "modules.json" in model.files,
            "names of an owner of cross-encoders": lambda: model.name.startswith("mixedbread-ai/"),
            "pickled weights": lambda: model.is_local and "pytorch_model.bin" in model.files,
            "short names of services": lambda: model.name in ("mixedbread", "pinecone"),
            "architectures of others": lambda: model.is_local and "Bert" in str(model.config.get("architectures")),
        }
        return Claim(Confidence.CERTAIN if model.name == "fake" or fits[greedy]() else Confidence.NONE, "")

    registry = fake_registry(fake_backend(load=Load(FakeScorer), claim=claim))
    with pytest.raises(AssertionError, match=r"claims a model that does not exist|claim by its files, or return"):
        BackendContract().test_claims_only_what_it_runs(Reranker("fake", registry=registry), tmp_path)


def test_a_backend_that_claims_its_own_passes(tmp_path: Path) -> None:
    registry = fake_registry(fake_backend(load=Load(FakeScorer)))
    BackendContract().test_claims_only_what_it_runs(Reranker("fake", registry=registry), tmp_path)
    BackendContract().test_loads_what_it_claims(Reranker("fake", registry=registry))


class LoadOnly(Load):
    """A `Backend.load` that needs to be told what it loads."""

    def __call__(self, model: ModelRef, options: object) -> Any:
        if model.backend is None:
            raise ModelLoadError("no weights: fetch them")
        return self.scorer()


def test_a_backend_that_claims_what_it_does_not_load_fails() -> None:
    def loads(backend: str | None, load: Load, claim: Confidence) -> None:
        own = fake_backend(load=load, claim=lambda model: Claim(claim, ""))
        BackendContract().test_loads_what_it_claims(Reranker("fake", registry=fake_registry(own), backend=backend))

    loads(None, Load(FakeScorer), Confidence.CERTAIN)
    with pytest.raises(pytest.fail.Exception, match="claims 'fake', which does not load without backend=: no weights"):
        loads("fake", LoadOnly(FakeScorer), Confidence.CERTAIN)
    with pytest.raises(pytest.skip.Exception, match="only by a short name or with backend="):
        loads("fake", LoadOnly(FakeScorer), Confidence.POSSIBLE)


def test_a_model_that_another_backend_claims_more_surely_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    other = fake_backend("other", claim=lambda model: Claim(Confidence.CERTAIN, ""))
    monkeypatch.setattr("rerank.testing.contract.installed", lambda: fake_registry(other))
    monkeypatch.setattr("rerank.resolution.takes_any", lambda backend: False)
    own = fake_registry(fake_backend(claim=lambda model: Claim(Confidence.LIKELY, "")))
    with pytest.raises(AssertionError, match="'other' claims 'fake' more surely"):
        BackendContract().test_loads_what_it_claims(Reranker("fake", registry=own))


def test_what_is_printed_fails(capfd: pytest.CaptureFixture[str]) -> None:
    BackendContract().test_prints_nothing(build(FakeScorer), capfd)
    with pytest.raises(AssertionError, match="standard output belongs to the program"):
        BackendContract().test_prints_nothing(build(Chatty), capfd)


class OwnOptions(Options):
    """Core's options, all of them."""


class Windowless(OwnOptions):
    """Refuses windows by their switch, and takes their size."""

    @field_validator("long_documents")
    @classmethod
    def _has_no_windows(cls, given: str) -> str:
        if given == "chunk":
            raise ValueError("documents are read whole")
        return given


def test_windows_that_have_no_effect_fail() -> None:
    check("test_windows_are_read_or_refused", build(FakeScorer))
    for options, message in (
        (OwnOptions, "long_documents='chunk' has no effect"),
        (Windowless, "the option window has no effect"),
    ):
        registry = fake_registry(fake_backend(options=options))
        with pytest.raises(AssertionError, match=message):
            check("test_windows_are_read_or_refused", Reranker("fake", registry=registry))


@pytest.mark.parametrize("claim", [None, True, (True, ""), (1, "an int"), ("certain", ""), Confidence.CERTAIN])
def test_a_claim_that_is_none_fails(claim: Any, tmp_path: Path) -> None:
    registry = fake_registry(fake_backend(claim=lambda model: claim))
    with pytest.raises(AssertionError, match=r"claim returned .*: return Claim\(Confidence\.NONE, 'the reason'\)"):
        BackendContract().test_claims_only_what_it_runs(Reranker("fake", registry=registry, backend="fake"), tmp_path)


def test_a_claim_that_prints_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def claim(model: ModelRef) -> Claim:
        print("asked about", model.name)
        return Claim(Confidence.CERTAIN, "")

    registry = fake_registry(fake_backend(claim=claim))
    with pytest.raises(AssertionError, match="standard output belongs to the program"):
        BackendContract().test_prints_nothing(Reranker("fake", registry=registry), capfd)
