"""The contract of a backend as tests: subclass it and provide one fixture, and every behaviour is tested.

```python
from rerank import Reranker
from rerank.testing.contract import BackendContract

class TestMine(BackendContract):
    @pytest.fixture
    def reranker(self):
        return Reranker("some/model", backend="mine")
```

Tests of a capability that the scorer does not have are skipped, with that as the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import pickle
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest

from rerank import (
    Backend,
    Confidence,
    Document,
    InvalidInputError,
    InvalidOptionsError,
    ModelRef,
    ModelSource,
    RankedResults,
    Request,
    Reranker,
    RerankError,
    Scores,
    installed,
    takes_any,
)
from rerank.protocols import Calibrates, ScoresAsync, ScoresMany
from rerank.testing.fake import fake_registry

QUERY = "how do bees find flowers?"
DOCUMENTS = [
    "Bees see ultraviolet patterns on petals that guide them to nectar.",
    "The stock market closed higher on Friday after a volatile week of trading.",
    "Foragers return to the hive and dance: the angle tells the direction of flowers, the length their distance.",
    "蜜蜂はどうやって花を見つけるのでしょうか。",
    "A flower.",
    "كيف يجد النحل الأزهار؟",
    "Honey, 🐝 and café crème – " * 12,
    "The stock market closed higher on Friday after a volatile week of trading.",
]
OTHER_QUERY = "why did shares rise?"


def foreign_models(folder: Path) -> Sequence[tuple[str, ModelRef]]:
    """Models beside the backend that runs them: names of others, and checkpoints of kinds that differ in their files.

    Args:
        folder: Where to write the checkpoints, which have no weights inside.
    """
    torch = "model.safetensors"
    checkpoints: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("images", {"architectures": ["ViTForImageClassification"]}, torch),
        ("speech", {"architectures": ["WhisperModel"]}, torch),
        ("cross-encoder", {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}, torch),
        ("cross-encoder", {"architectures": ["ModernBertForSequenceClassification"], "num_labels": 1}, torch),
        ("cross-encoder", {"architectures": ["XLMRobertaForSequenceClassification"], "num_labels": 1}, torch),
        (
            "cross-encoder",
            {"architectures": ["DebertaV2ForSequenceClassification"], "num_labels": 1},
            "pytorch_model.bin",
        ),
        ("t5", {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, torch),
        ("llm-pointwise", {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, torch),
        ("llm-pointwise", {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}, torch),
        ("llm-pointwise", {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2"}, torch),
        ("embeddings", {"architectures": ["BertModel"], "model_type": "bert"}, "modules.json"),
        ("onnx", {"architectures": ["BertForSequenceClassification"]}, "model.onnx"),
        ("llm-listwise", {}, "chat.gguf"),
    )
    found: list[tuple[str, ModelRef]] = []
    for owner, config, file in checkpoints:
        made = folder / "-".join([str(len(found)), *config.get("architectures", ["GGUF"])])
        made.mkdir()
        (made / "config.json").write_text(json.dumps(config))
        for beside in ("README.md", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            (made / beside).touch()
        (made / file).write_text("[]" if file == "modules.json" else "")
        found.append((owner, ModelRef(str(made / file if file.endswith(".gguf") else made))))
    names = (
        ("api", "cohere"),
        ("api", "jina"),
        ("api", "voyage"),
        ("api", "mixedbread"),
        ("api", "pinecone"),
        ("api", "bedrock"),
        ("nano", "nano"),
        ("onnx", "ms-marco-MiniLM-L-12-v2"),
        ("onnx", "rank-T5-flan"),
        ("cross-encoder", "BAAI/bge-reranker-base"),
        ("cross-encoder", "BAAI/bge-reranker-v2-m3"),
        ("cross-encoder", "cross-encoder/ms-marco-MiniLM-L6-v2"),
        ("cross-encoder", "mixedbread-ai/mxbai-rerank-base-v1"),
        ("cross-encoder", "jinaai/jina-reranker-v2-base-multilingual"),
        ("colbert", "colbert-ir/colbertv2.0"),
        ("llm-listwise", "castorini/duot5-base-msmarco"),
        ("llm-pointwise", "Qwen/Qwen3-Reranker-0.6B"),
        ("llm-layerwise", "BAAI/bge-reranker-v2-minicpm-layerwise"),
    )
    nothing_cached = str(folder / "cache")
    return [*found, *((owner, ModelRef(own, cache_dir=nothing_cached, local_files_only=True)) for owner, own in names)]


def best_and_worst(query: str, documents: Sequence[str], scores: Sequence[float]) -> tuple[str, str, str]:
    """`BackendContract.better` by the scores of another implementation.

    Args:
        query: The query.
        documents: The documents that it scored.
        scores: One per document.

    Returns:
        The query, the document with the highest score, and the one with the lowest.
    """
    ordered = sorted(zip(scores, documents))
    return query, ordered[-1][1], ordered[0][1]


def _state_of_the_process() -> dict[str, Any]:
    """What a model might change for all other code: the environment, the folder, and the random numbers."""
    state: dict[str, Any] = {
        "the environment": dict(os.environ),
        "the working folder": Path.cwd(),
        "random's numbers": random.getstate(),
    }
    if numpy := sys.modules.get("numpy"):
        state["numpy's random numbers"] = pickle.dumps(numpy.random.get_state())
    if torch := sys.modules.get("torch"):
        state["torch's random numbers"] = torch.get_rng_state().tolist()
        state["torch's default dtype"] = torch.get_default_dtype()
    return state


_DEPENDS: Final = (
    "scores depend on what else is in the call: if that is the model's nature, set batch_invariant = False in the class; if "
    "they only round differently, raise tolerance"
)


class BackendContract:
    """Subclass with a ``reranker`` fixture; override the class variables if the model requires it.

    Attributes:
        batch_invariant: Whether a document's score is the same whatever else is in the call (it is not for listwise
            models and for graphs with dynamic quantisation).
        tolerance: How far equal scores may differ, in the score's own unit.
        better: A query, the document that must win and one that must lose, such as ``("bees", "Bees dance.", "Shares rose.")``.
            Name them: nothing else sees scores with the wrong sign. Where only another implementation knows the order, as of
            an untrained model, let the fixture set ``self.better`` with `best_and_worst`. None has no such test.
    """

    batch_invariant: ClassVar[bool] = True
    tolerance: ClassVar[float] = 1e-5
    better: tuple[str, str, str] | None = None

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The backend under test, loaded."""
        raise NotImplementedError("define a fixture called reranker")

    def test_ranks_every_document_once(self, reranker: Reranker) -> None:
        ranked = reranker.rank(QUERY, DOCUMENTS)
        assert sorted(r.index for r in ranked if r.index is not None) == list(range(len(DOCUMENTS)))
        assert [r.rank for r in ranked] == list(range(1, len(DOCUMENTS) + 1))
        assert [r.text for r in ranked] == [DOCUMENTS[r.index or 0] for r in ranked]
        assert ranked.backend == reranker.backend
        assert ranked.model == reranker.model

    def test_scores_fall_with_rank(self, reranker: Reranker) -> None:
        ranked = reranker.rank(QUERY, DOCUMENTS)
        scores = [r.score for r in ranked if r.score is not None]
        assert scores == sorted(scores, reverse=True)
        assert ranked.has_scores == bool(scores)

    def test_scores_are_numbers(self, reranker: Reranker) -> None:
        scores = reranker.scorer.score(self._request(reranker, QUERY, DOCUMENTS))
        for value in scores.values:
            if value is None:
                assert scores.scale == "ordinal", "a score is None, and no top_k was given: score every document"
                continue
            is_number = isinstance(value, Real) and not isinstance(value, bool)
            assert is_number, f"a score is {value!r}, of type {type(value).__name__}: return numbers"

    def test_scores_tell_documents_apart(self, reranker: Reranker) -> None:
        self._needs_scores(reranker)
        scores = {r.score for r in reranker.rank(QUERY, DOCUMENTS)}
        assert len(scores) > 1, f"every document has the score {scores}: the model reads none of them"

    def test_scores_depend_on_the_query(self, reranker: Reranker) -> None:
        self._needs_scores(reranker)
        scores = self._by_text(reranker.rank(QUERY, DOCUMENTS))
        others = self._by_text(reranker.rank(OTHER_QUERY, DOCUMENTS))
        moved = [(others[text] or 0.0) - (score or 0.0) for text, score in scores.items()]
        assert max(moved) - min(moved) > 1e-9, (
            "another query changes no document's score, or all by the same: the model does not read the two together, or "
            "answers from a cache"
        )

    def test_the_better_document_wins(self, reranker: Reranker) -> None:
        if self.better is None:
            pytest.skip("the class does not say which document is better: set better")
        query, winner, loser = self.better
        for documents in ([winner, loser], [loser, winner]):
            first = reranker.rank(query, documents)[0].text
            assert first == winner, f"{first!r} came before {winner!r}: higher scores must be better"

    def test_claims_only_what_it_runs(self, reranker: Reranker, tmp_path: Path) -> None:
        backend = reranker.description
        assert not takes_any(backend), (
            "the backend claims a model that does not exist: return Confidence.NONE for what it cannot load, by the "
            "model's files or by names of its own"
        )
        for owner, model in foreign_models(tmp_path):
            confidence = self._claimed(backend, model)
            assert confidence < Confidence.LIKELY or backend.name == owner, (
                f"the backend claims {model.name!r}, which is a model of {owner!r}, as {confidence!r}: claim by its files, or "
                "return Confidence.POSSIBLE"
            )

    def test_loads_what_it_claims(self, reranker: Reranker) -> None:
        backend = reranker.description
        model = replace(reranker.model_ref, alias=None, backend=None, model_type=None)
        if self._claimed(backend, model) < Confidence.LIKELY:
            pytest.skip("the backend runs this model only by a short name or with backend=")
        options = {name: getattr(reranker.options, name) for name in reranker.options.model_fields_set}
        source = {field.name: getattr(model, field.name) for field in fields(ModelSource)}
        registry = fake_registry(*{**installed().backends, backend.name: backend}.values())
        try:
            again = Reranker(model.name, registry=registry, **source, **options)
        except RerankError as error:
            pytest.fail(f"the backend claims {model.name!r}, which does not load without backend=: {error}")
        with again:
            assert again.backend == backend.name, f"{again.backend!r} claims {model.name!r} more surely"

    def test_no_documents_is_an_empty_ranking(self, reranker: Reranker) -> None:
        assert len(reranker.rank(QUERY, [])) == 0

    def test_one_document_is_no_special_case(self, reranker: Reranker) -> None:
        assert [r.rank for r in reranker.rank(QUERY, DOCUMENTS[:1])] == [1]

    def test_equal_texts_stay_apart(self, reranker: Reranker) -> None:
        ranked = reranker.rank(QUERY, ["a flower"] * 3, doc_ids=["a", "b", "c"])
        assert sorted(str(r.doc_id) for r in ranked) == ["a", "b", "c"]

    def test_equal_scores_keep_the_order_of_candidates(self, reranker: Reranker) -> None:
        self._needs_scores(reranker)
        self._needs_batch_invariance()
        assert [r.index for r in reranker.rank(QUERY, ["a flower"] * 5)] == list(range(5))

    def test_scores_do_not_depend_on_order(self, reranker: Reranker) -> None:
        self._needs_scores(reranker)
        self._needs_batch_invariance()
        forward = self._by_text(reranker.rank(QUERY, DOCUMENTS))
        backward = self._by_text(reranker.rank(QUERY, DOCUMENTS[::-1]))
        assert backward == pytest.approx(forward, abs=self.tolerance), _DEPENDS

    def test_scores_do_not_depend_on_the_rest_of_the_batch(self, reranker: Reranker) -> None:
        self._needs_scores(reranker)
        self._needs_batch_invariance()
        together = self._by_text(reranker.rank(QUERY, DOCUMENTS))
        alone = {text: reranker.score(QUERY, text) for text in DOCUMENTS}
        assert alone == pytest.approx(together, abs=self.tolerance), _DEPENDS

    def test_batch_size_changes_nothing(self, reranker: Reranker) -> None:
        self._needs_scores(reranker)
        self._needs_batch_invariance()
        whole = self._by_text(reranker.rank(QUERY, DOCUMENTS))
        small = self._by_text(reranker.rank(QUERY, DOCUMENTS, batch_size=2))
        assert small == pytest.approx(whole, abs=self.tolerance), _DEPENDS

    def test_top_k_is_the_head_of_the_ranking(self, reranker: Reranker) -> None:
        self._needs_batch_invariance()
        whole = reranker.rank(QUERY, DOCUMENTS)
        assert [r.index for r in reranker.rank(QUERY, DOCUMENTS, top_k=3)] == [r.index for r in whole[:3]]

    def test_rank_many_equals_rank(self, reranker: Reranker) -> None:
        requests = [(QUERY, DOCUMENTS), (OTHER_QUERY, []), (OTHER_QUERY, DOCUMENTS[:2]), (QUERY, DOCUMENTS[3:])]
        many = list(reranker.rank_many(requests))
        assert [len(ranked) for ranked in many] == [len(documents) for _, documents in requests]
        if self.batch_invariant:
            for (query, documents), ranked in zip(requests, many):
                self._assert_alike(ranked, reranker.rank(query, documents))

    def test_score_many_equals_score(self, reranker: Reranker) -> None:
        scorer = reranker.scorer
        if not isinstance(scorer, ScoresMany):
            pytest.skip("the scorer has no score_many")
        requests = [
            self._request(reranker, QUERY, DOCUMENTS),
            self._request(reranker, OTHER_QUERY, DOCUMENTS[:2]),
            self._request(reranker, QUERY, DOCUMENTS[3:]),
        ]
        many = list(scorer.score_many(iter(requests)))
        assert len(many) == len(requests)
        for request, scores in zip(requests, many):
            self._assert_equal(scores, scorer.score(request))

    def test_score_many_is_lazy(self, reranker: Reranker) -> None:
        if not isinstance(reranker.scorer, ScoresMany):
            pytest.skip("the scorer has no score_many")
        taken: list[int] = []

        def endless() -> Any:
            while True:
                taken.append(1)
                yield QUERY, DOCUMENTS[:4]

        assert len(next(reranker.rank_many(endless()))) == 4
        assert len(taken) < 10_000

    def test_async_equals_sync(self, reranker: Reranker) -> None:
        async def both() -> tuple[RankedResults, list[RankedResults]]:
            one = await reranker.arank(QUERY, DOCUMENTS)
            return one, [ranked async for ranked in reranker.arank_many([(QUERY, DOCUMENTS), (OTHER_QUERY, [])])]

        one, many = asyncio.run(both())
        self._assert_alike(one, reranker.rank(QUERY, DOCUMENTS))
        assert [len(ranked) for ranked in many] == [len(DOCUMENTS), 0]

    def test_native_async_equals_score(self, reranker: Reranker) -> None:
        scorer = reranker.scorer
        if not isinstance(scorer, ScoresAsync):
            pytest.skip("the scorer has no ascore")
        request = self._request(reranker, QUERY, DOCUMENTS)
        self._assert_equal(asyncio.run(scorer.ascore(request)), scorer.score(request))

    def test_threads_agree(self, reranker: Reranker) -> None:
        alone = reranker.rank(QUERY, DOCUMENTS)
        with ThreadPoolExecutor(4) as pool:
            for ranked in pool.map(lambda _: reranker.rank(QUERY, DOCUMENTS), range(8)):
                self._assert_alike(ranked, alone)

    def test_inputs_are_left_alone(self, reranker: Reranker) -> None:
        documents: list[dict[str, Any]] = [
            {"id": 7, "text": DOCUMENTS[0], "meta": {"tags": ["x"]}},
            {"text": DOCUMENTS[1], "url": "u"},
        ]
        before = copy.deepcopy(documents)
        ranked = reranker.rank(QUERY, documents)
        assert documents == before
        assert ranked.get_result_by_docid(7).metadata == {"tags": ["x"]}
        assert ranked.get_result_by_docid(1).metadata == {"url": "u"}

    def test_kinds_of_documents_agree(self, reranker: Reranker) -> None:
        texts = reranker.rank(QUERY, DOCUMENTS)
        self._assert_alike(reranker.rank(QUERY, [{"text": text} for text in DOCUMENTS]), texts)
        documents = [Document(text=text, doc_id=i) for i, text in enumerate(DOCUMENTS)]
        self._assert_alike(reranker.rank(QUERY, documents), texts)
        named = [Document(text=text, doc_id=f"d{-i}", metadata={"n": i}) for i, text in enumerate(DOCUMENTS)]
        self._assert_alike(reranker.rank(QUERY, named), texts)

    def test_results_are_plain_data(self, reranker: Reranker) -> None:
        ranked = reranker.rank(QUERY, DOCUMENTS)
        assert RankedResults.model_validate_json(ranked.model_dump_json()) == ranked
        assert pickle.loads(pickle.dumps(ranked)) == ranked  # noqa: S301
        assert copy.deepcopy(ranked) == ranked

    def test_normalized_scores_lie_between_0_and_1_in_the_same_order(self, reranker: Reranker) -> None:
        raw = reranker.rank(QUERY, DOCUMENTS)
        if raw.scale in ("similarity", "ordinal") and not isinstance(reranker.scorer, Calibrates):
            with pytest.raises(InvalidOptionsError, match="normalize"):
                reranker.rank(QUERY, DOCUMENTS, normalize=True)
            return
        normalized = reranker.rank(QUERY, DOCUMENTS, normalize=True)
        assert [r.index for r in normalized] == [r.index for r in raw]
        assert all(r.score is not None and 0 <= r.score <= 1 for r in normalized)
        assert normalized.scale == "probability"

    def test_hard_texts_give_a_result_or_a_typed_error(self, reranker: Reranker) -> None:
        for text in (
            "",
            " ",
            "\x00",
            "\ufffe",
            "[SEP] [MASK] </s>",
            "😀" * 50,
            "word " * 20_000,
            "x" * 100_000,
            "\r\n\t",
        ):
            with contextlib.suppress(RerankError):  # the scorer is asked itself, since rank wraps what it raises
                assert len(reranker.scorer.score(self._request(reranker, QUERY, [text, DOCUMENTS[0]])).values) == 2

    def test_bad_input_is_named(self, reranker: Reranker) -> None:
        for query, documents, named in (
            ("", DOCUMENTS, "query"),
            (None, DOCUMENTS, "query"),
            (QUERY, [DOCUMENTS[0], None], "document 1"),
            (QUERY, [DOCUMENTS[0], b"bytes"], "document 1"),
            (QUERY, "one text", "docs"),
            (QUERY, ["\ud800"], "document 0"),
        ):
            with pytest.raises(InvalidInputError, match=named):
                reranker.rank(query, documents)  # type: ignore[arg-type]

    def test_windows_are_read_or_refused(self, reranker: Reranker) -> None:
        text = " ".join(DOCUMENTS[:4])
        windows: dict[str, Any] = {"long_documents": "chunk", "window": 8, "overlap": 2}
        if self._refuses(reranker, text, windows):
            ignorable: tuple[dict[str, Any], ...] = ({"window": 8}, {"overlap": 2}, {"aggregate": "mean"})
            for ignored in ignorable:
                assert self._refuses(reranker, text, ignored), (
                    f"the option {min(ignored)} has no effect, since long_documents='chunk' is refused: refuse it too"
                )
            return
        assert "window" in reranker.rank(QUERY, [text], **windows)[0].details, (
            "long_documents='chunk' has no effect: score windows and say in details which one won, or refuse the option, "
            "with window, overlap and aggregate"
        )

    def test_prints_nothing(self, reranker: Reranker, capfd: pytest.CaptureFixture[str]) -> None:
        capfd.readouterr()
        self._claimed(reranker.description, reranker.model_ref)
        reranker.rank(QUERY, DOCUMENTS)
        assert capfd.readouterr().out == "", "standard output belongs to the program that ranks: use logging"

    def test_leaves_the_process_as_it_was(self, reranker: Reranker) -> None:
        reranker.rank(QUERY, DOCUMENTS)
        before = _state_of_the_process()
        reranker.rank(QUERY, DOCUMENTS)
        changed = [name for name, state in _state_of_the_process().items() if state != before[name]]
        assert not changed, f"ranking changes {', '.join(changed)}: leave what other code relies on as it is"

    def test_unknown_option_names_the_near_miss(self, reranker: Reranker) -> None:
        with pytest.raises(InvalidOptionsError, match="batch_size"):
            reranker.rank(QUERY, DOCUMENTS, batchsize=2)

    def test_pickles_and_loads_again(self, reranker: Reranker) -> None:
        again = pickle.loads(pickle.dumps(reranker))  # noqa: S301
        with again:
            self._assert_alike(again.rank(QUERY, DOCUMENTS), reranker.rank(QUERY, DOCUMENTS))

    def test_close_is_final_and_may_be_repeated(self, reranker: Reranker) -> None:
        again = pickle.loads(pickle.dumps(reranker))  # noqa: S301
        again.rank(QUERY, DOCUMENTS[:1])
        again.close()
        again.close()
        with pytest.raises(RerankError, match="closed"):
            again.rank(QUERY, DOCUMENTS)
        assert len(reranker.rank(QUERY, DOCUMENTS[:1])) == 1

    def _refuses(self, reranker: Reranker, text: str, options: dict[str, Any]) -> bool:
        try:
            reranker.rank(QUERY, [text], **options)
        except InvalidOptionsError:
            return True
        return False

    def _claimed(self, backend: Backend, model: ModelRef) -> Confidence:
        try:
            claim = backend.claim(model)
        except RerankError:
            return Confidence.NONE
        well_formed = isinstance(claim, tuple) and len(claim) == 2 and isinstance(claim[0], Confidence)
        assert well_formed, f"claim returned {claim!r}: return Claim(Confidence.NONE, 'the reason'), or a higher one"
        return claim[0]

    def _needs_scores(self, reranker: Reranker) -> None:
        if not reranker.rank(QUERY, DOCUMENTS[:1]).has_scores:
            pytest.skip("the model only orders")

    def _needs_batch_invariance(self) -> None:
        if not self.batch_invariant:
            pytest.skip("the model's scores depend on the rest of the call")

    def _request(self, reranker: Reranker, query: str, texts: Sequence[str]) -> Request:
        documents = [Document(text=text, doc_id=i) for i, text in enumerate(texts)]
        return Request(query=query, documents=documents, options=reranker.options)

    def _by_text(self, ranked: RankedResults) -> dict[str, float | None]:
        return {result.text: result.score for result in ranked}

    def _assert_alike(self, ours: RankedResults, theirs: RankedResults) -> None:
        """The same documents with the same scores; order may differ only between scores that are that close."""
        if not theirs.has_scores:
            assert [r.index for r in ours] == [r.index for r in theirs]
            return
        wanted = {r.index: r.score for r in theirs}
        assert {r.index: r.score for r in ours} == pytest.approx(wanted, abs=self.tolerance)

    def _assert_equal(self, ours: Scores, theirs: Scores) -> None:
        """The same answer to one request; if scores depend on the rest of the call, the same number and scale."""
        assert ours.scale == theirs.scale
        assert len(ours.values) == len(theirs.values)
        if self.batch_invariant:
            assert list(ours.values) == pytest.approx(list(theirs.values), abs=self.tolerance)
