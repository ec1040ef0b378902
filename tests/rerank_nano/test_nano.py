"""The embedded model: its files, its scores compared with its evaluation, its quality, and no network access."""

from __future__ import annotations

import ast
import hashlib
import json
import math
import subprocess
import sys
from collections import defaultdict
from itertools import islice

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

from rerank import BackendNotFoundError, Confidence, ModelRef, RankedResults, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract
from rerank_nano.backend import FOLDER, claim


@pytest.fixture(scope="module")
def nano():
    return Reranker()


class TestContract(BackendContract):
    better = (QUERY, DOCUMENTS[0], DOCUMENTS[1])

    @pytest.fixture
    def reranker(self, nano):
        return nano


@pytest.fixture(scope="module")
def evaluation(shared):
    """What `evaluate.py` beside the model's source defines, without the package that only its figures need."""
    tree = ast.parse((shared / "models/nano/evaluate.py").read_text())
    tree.body = [node for node in tree.body if "ir_measures" not in ast.unparse(node) or isinstance(node, ast.Expr)]
    scope = {"__name__": "evaluate"}
    exec(compile(tree, "evaluate.py", "exec"), scope)
    return scope


def test_the_default_is_the_embedded_model(nano):
    assert (nano.model, nano.backend) == ("nano", "nano")
    for alias in ("nano", None):
        assert Reranker(alias).score(QUERY, DOCUMENTS[0]) == nano.score(QUERY, DOCUMENTS[0])


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "config.json"])
def test_the_files_are_those_of_the_source(shared, file):
    ours, source = ((folder / file).read_bytes() for folder in (FOLDER, shared / "models/nano"))
    assert hashlib.sha256(ours).hexdigest() == hashlib.sha256(source).hexdigest()


def test_scores_of_a_fixed_example(nano):
    """Pinned where the rule was run apart, on an AVX-512 processor; others round a little differently."""
    ranked = nano.rank(QUERY, DOCUMENTS[:3])
    scores = [result.score for result in sorted(ranked, key=lambda result: result.index)]
    assert scores == pytest.approx([1.0304, 0.0722, 0.8125], abs=0.02)
    assert [result.index for result in ranked] == [0, 2, 1]


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def test_scores_are_those_of_a_bare_session(nano):
    """The rule on onnxruntime alone, one text at a time, from the files in the package."""
    session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))

    def encode(text, limit):
        tokenizer.enable_truncation(limit)
        ids = np.array([tokenizer.encode(text).ids])
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return session.run(None, feed)[0][0]  # (tokens, 384)

    texts = [*DOCUMENTS, "", "\u200b", "nectar and pollen " * 200]
    query = encode(QUERY, 48)
    expected = {}
    for text in texts:
        document = encode(text, 256)
        cosines = unit(query[1:-1]) @ unit(document[1:-1]).T  # (query_words, document_words)
        maxsim = cosines.max(axis=1).mean() if cosines.size else 0.0
        expected[text] = float(maxsim + 0.5 * (unit(query.mean(axis=0)) @ unit(document.mean(axis=0))))
    ranked = nano.rank(QUERY, texts)
    assert {result.text: result.score for result in ranked} == pytest.approx(expected, abs=1e-4)
    assert ranked.scale == "similarity"
    assert ranked.diagnostics["truncated"] == 1


def test_scores_are_those_of_the_evaluation(nano, evaluation, shared):
    encode = evaluation["Encoder"](*(str(shared / "models/nano" / file) for file in ("model.onnx", "tokenizer.json")))
    long_query = "what do bees do in winter, when no flower is open, " * 6
    for query in (QUERY, "nurse", long_query):
        texts = [*DOCUMENTS, "\u200b", "nectar and pollen " * 200]
        (asked,) = encode([query], evaluation["QUERY_TOKENS"])
        pairs = [evaluation["score"](asked, vectors) for vectors in encode(texts, evaluation["DOCUMENT_TOKENS"])]
        expected = [maxsim + evaluation["POOLED_WEIGHT"] * pooled for maxsim, pooled in pairs]
        ranked = nano.rank(query, texts)
        assert [r.score for r in sorted(ranked, key=lambda r: r.index)] == pytest.approx(expected, abs=1e-4)
        assert ranked.diagnostics["query_truncated"] == (query is long_query)


def test_scores_are_exactly_the_same_in_any_batch(nano):
    """The activation scales are constants: padding and neighbours change nothing at all."""
    texts = [text * n for text in DOCUMENTS[:5] for n in (1, 2)]
    alone = [nano.score(QUERY, text) for text in texts]
    together = [r.score for r in sorted(nano.rank(QUERY, texts), key=lambda r: r.index)]
    assert together == pytest.approx(alone, abs=1e-6)


def test_no_operator_scales_by_the_batch():
    assert b"DynamicQuantizeLinear" not in (FOLDER / "model.onnx").read_bytes()
    onnx = pytest.importorskip("onnx")
    operators = {node.op_type for node in onnx.load(FOLDER / "model.onnx").graph.node}
    assert not {operator for operator in operators if operator.startswith("Dynamic")}


_OFFLINE = """
import json, socket, sys
def refuse(*_, **__):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from rerank import Reranker
ranked = Reranker().rank("where do bees find nectar?", ["On the stock market.", "In flowers."])
heavy = {"torch", "transformers", "huggingface_hub", "httpx", "requests"} & set(sys.modules)
print(json.dumps([ranked[0].index, sorted(heavy)]))
"""


def test_works_without_network_torch_or_hub_client():
    done = subprocess.run([sys.executable, "-c", _OFFLINE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1, []]
    assert done.stderr == ""


def test_claims_its_own_name_alone():
    assert claim(ModelRef("nano")).confidence == Confidence.CERTAIN
    for other in ("someone/nano", "nano-2", "all-MiniLM-L6-v2", str(FOLDER)):
        assert claim(ModelRef(other)).confidence == Confidence.NONE


def test_its_folder_loads_as_any_checkpoint(nano):
    reranker = Reranker(FOLDER)
    assert reranker.backend == "onnx"
    assert reranker.score(QUERY, DOCUMENTS[0]) == nano.score(QUERY, DOCUMENTS[0])


def test_real_passages_keep_their_order_with_kept_vectors(nano, shared, tmp_path):
    """100 passages of MS MARCO."""
    with (shared / "data/collections/msmarco-dl19/corpus.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in islice(lines, 100)]
    plain = {result.index: result.score for result in nano.rank(QUERY, texts)}
    for dtype, tolerance in (("fp16", 2e-4), ("int8", 4e-3)):
        with Reranker(vectors=tmp_path, vectors_dtype=dtype) as keeping:
            first, again = (keeping.rank(QUERY, texts) for _ in range(2))
        assert {result.index: result.score for result in first} == pytest.approx(plain, abs=tolerance)
        assert again.results == first.results


def test_its_options_are_those_of_onnx():
    reranker = Reranker("nano", threads=1, max_length=32)
    assert reranker.options.threads == 1
    assert reranker.rank(QUERY, DOCUMENTS).diagnostics["truncated"] > 0


COUNT_THREADS = """
import os
import numpy, onnxruntime
from rerank import Reranker, available_cores
from tokenizers import Tokenizer, models

Tokenizer(models.WordLevel({"word": 0}, "word")).encode_batch(["word"] * 50)  # starts the library's own threads
before = len(os.listdir("/proc/self/task"))
Reranker().rank("word", [f"some words, {n}" for n in range(200)], progress=False)
print(len(os.listdir("/proc/self/task")) - before - available_cores())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux lists them")
def test_no_threads_run_beside_the_streams():
    done = subprocess.run([sys.executable, "-c", COUNT_THREADS], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 0


def test_without_the_distribution_the_error_says_what_to_install():
    from rerank.registry import Registry

    with pytest.raises(BackendNotFoundError, match="pip install rerank-nano"):
        Reranker(registry=Registry())


def ndcg(grades, ranking, depth=10):
    """nDCG with linear gain, as trec_eval computes it."""
    gain = lambda order: sum(grade / math.log2(rank + 2) for rank, grade in enumerate(order[:depth]))  # noqa: E731
    best = gain(sorted(grades.values(), reverse=True))
    return gain([grades.get(document, 0) for document in ranking]) / best if best else 0.0


def test_quality_on_noveleval(nano, shared):
    """21 queries on events later than most training data, 20 candidates each."""
    folder = shared / "data/collections/noveleval"
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    corpus = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in rows}
    queries = {row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").read_text().splitlines())}
    grades, candidates = defaultdict(dict), defaultdict(list)
    for line in (folder / "qrels.tsv").read_text().splitlines():
        query, document, grade = line.split("\t")[:3]
        if query != "query-id":
            grades[query][document] = int(grade)
    for line in (folder / "runs/candidates.trec").read_text().splitlines():
        query, _, document, _, _, _ = line.split()
        candidates[query].append(document)
    requests = [
        {"query": queries[query], "docs": [corpus[document] for document in documents], "doc_ids": documents}
        for query, documents in candidates.items()
    ]
    assert len(requests) == 21
    figures = [
        ndcg(grades[query], [result.doc_id for result in ranked])
        for query, ranked in zip(candidates, nano.rank_many(requests))
    ]
    assert sum(figures) / 21 == pytest.approx(0.757, abs=0.006)  # .753 where BM25 chooses the candidates


FILLER = "The committee met on Tuesday and discussed the budget of the town hall. " * 6
ANSWER = "Bees find flowers by the ultraviolet patterns on their petals. "


@pytest.mark.parametrize("vectors", [None, "memory"])
@pytest.mark.parametrize("before", range(5))
def test_the_window_with_the_answer_wins(nano, vectors, before):
    text = FILLER * before + ANSWER + FILLER * (4 - before)
    options = {"long_documents": "chunk", "window": 64, "overlap": 8}
    reranker = nano if vectors is None else Reranker(vectors=vectors)
    ranked = reranker.rank(QUERY, ["short", text], **options)
    assert RankedResults.model_validate_json(ranked.model_dump_json()) == ranked
    assert ranked.get_result_by_docid(0).details == {}
    result = ranked.get_result_by_docid(1)
    window = result.details["window"]
    start, end = window["characters"]
    assert ANSWER[:20] in text[start:end] or ANSWER[-30:-1] in text[start:end]
    assert window["score"] == result.score
    spans = nano.scorer.tokens.spans(text)[slice(*window["tokens"])]
    assert [start, end] == [spans[0][0], spans[-1][1]]
    first = reranker.rank(QUERY, [text], aggregate="first", **options)[0]
    assert first.details["window"]["index"] == 0
    assert first.details["window"]["score"] == first.score
    assert first.details["window"]["count"] == window["count"]
