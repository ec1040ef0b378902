"""nDCG@10 of a model that reranks BM25's first 100 results through the public API, beside BM25's own.

    python benchmarks/quality.py DATA/msmarco-dl19 DATA/scifact:60 [--model nano] [--write benchmarks/results/quality.md]

A collection is a folder in BEIR's layout (``corpus.jsonl``, ``queries.jsonl``, ``qrels.tsv``) with a BM25 run; ``:60``
takes its first 60 queries. Needs ``pip install ir-measures``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import ir_measures
from ir_measures import nDCG

from rerank import Reranker


def read_collection(folder: Path, limit: int | None):
    """Texts, queries, BM25's candidates and the judgements of those queries."""
    corpus = {}
    for line in (folder / "corpus.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        corpus[row["_id"]] = f"{row.get('title', '')} {row['text']}".strip()
    queries = {
        (row := json.loads(line))["_id"]: row["text"] for line in (folder / "queries.jsonl").open(encoding="utf-8")
    }
    run = folder / "runs" / "bm25-anserini.trec"
    candidates, bm25 = defaultdict(list), []
    for line in (run if run.exists() else folder / "bm25.trec").open():
        query, _, document, rank, score, _ = line.split()
        if int(rank) <= 100 and document in corpus and query in queries:
            candidates[query].append(document)
            bm25.append(ir_measures.ScoredDoc(query, document, float(score)))
    chosen = list(candidates)[:limit]
    full = folder / "qrels.full.tsv"
    rows = [line.rstrip("\n").split("\t") for line in (full if full.exists() else folder / "qrels.tsv").open()]
    qrels = [ir_measures.Qrel(q, d, int(float(g))) for q, d, g in rows[1:] if q in chosen]
    return corpus, queries, {q: candidates[q] for q in chosen}, [s for s in bm25 if s.query_id in chosen], qrels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+")
    parser.add_argument("--model", default=None)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    table = ["| collection | queries | documents | BM25 | reranked | documents/s |", "|---|---|---|---|---|---|"]
    with Reranker(arguments.model) as reranker:
        for collection in arguments.collections:
            path, _, limit = collection.partition(":")
            corpus, queries, candidates, bm25, qrels = read_collection(Path(path), int(limit) if limit else None)
            started = time.perf_counter()
            requests = [
                {"query": queries[q], "docs": [corpus[d] for d in documents], "doc_ids": documents}
                for q, documents in candidates.items()
            ]
            run = [
                ir_measures.ScoredDoc(q, str(result.doc_id), result.score)
                for q, ranked in zip(candidates, reranker.rank_many(requests, progress=False))
                for result in ranked
            ]
            seconds = time.perf_counter() - started
            before, after = (
                ir_measures.calc_aggregate([nDCG @ 10], qrels, scored)[nDCG @ 10] for scored in (bm25, run)
            )
            table.append(
                f"| {Path(path).name} | {len(candidates)} | {len(run)} | {before:.4f} | {after:.4f} | {len(run) / seconds:.0f} |"
            )
            print(table[-1], flush=True)
    if arguments.write:
        title = f"# nDCG@10 of `{reranker.model}` reranking BM25's first 100\n\n"
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(title + "\n".join(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
