"""What each algorithm of rerank-listwise costs and finds, with a model of known noise in place of a language model.

    python benchmarks/listwise.py ../shared/data/collections/msmarco-dl19 [--queries 43] [--noise 0.6]
        [--write benchmarks/results/listwise.md]

Candidates are BM25's first 100. The model knows the judgements of NIST (0 to 3) and errs: to each passage's grade it adds one
error that is always the same, and one that is drawn anew for every question, both normal. Prompts and tokens are those of the usual
recipes, with passages of at most 300 tokens. Seconds are those of one query at an endpoint that answers after one second and is
asked eight questions at a time: computed from the rounds, and measured against such a server on loopback where it takes at most two
minutes. Needs ``pip install ir-measures``.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ir_measures
from ir_measures import nDCG
from quality import read_collection

from rerank import Reranker
from rerank_listwise import pairwise, setwise
from rerank_listwise.generators.measure import EstimatedTokens
from rerank_listwise.listwise import grade_groups, sliding_window, top_down, tournament
from rerank_listwise.options import ListwiseOptions
from rerank_listwise.prompted import Prompted
from rerank_listwise.questions import Answer, Question, Tally
from rerank_listwise.recipes import default_for, find
from rerank_listwise.rounds import run, without_repeats

DEPTH, AT_ONCE, DELAY = 100, 8, 1.0
LONGEST_MEASURED = 120.0  # seconds

ALGORITHMS: dict[str, tuple[dict[str, Any], Callable[[Sequence[int]], Any]]] = {
    "sliding-window": ({}, lambda c: sliding_window(c, size=20, stride=10)),
    "sliding-window, 2 passes": ({"passes": 2}, lambda c: sliding_window(c, size=20, stride=10, passes=2)),
    "top-down": ({}, lambda c: top_down(c, size=20, pivot=10)),
    "tournament": ({}, lambda c: tournament(c, size=20, runs=10, seed=0)),
    "tournament, 2 runs": ({"tournaments": 2}, lambda c: tournament(c, size=20, runs=2, seed=0)),
    "groups": ({"recipe": "grouprank"}, lambda c: grade_groups(c, size=20, epochs=2, seed=0)),
    "setwise-heapsort": ({}, lambda c: setwise.heapsort(c, children=3, top=10)),
    "setwise-insertion": ({}, lambda c: setwise.insertion(c, children=3, top=10)),
    "pairwise-heapsort": ({}, lambda c: pairwise.heapsort(c, top=10)),
    "pairwise-bubble": ({}, lambda c: pairwise.bubble(c, top=10)),
    "pairwise-all-pairs": ({}, pairwise.all_pairs),
}


class Judge:
    """The model: it sees grades with errors.

    Args:
        grades: The true grade of each candidate's document.
        noise: Standard deviation of each of the two errors.
    """

    def __init__(self, grades: dict[str, int], noise: float) -> None:
        self._grades, self._noise = grades, noise

    def seen(self, document: str, question: str) -> float:
        """The grade of a document, as the model sees it in a question."""
        lasting = random.Random(document).gauss(0, self._noise)
        fresh = random.Random(f"{document} {question}").gauss(0, self._noise)
        return self._grades.get(document, 0) + lasting + fresh


class Counted:
    """Answers questions of one query, and counts what they cost."""

    def __init__(self, judge: Judge, documents: Sequence[str], texts: Sequence[str], query: str) -> None:
        self._judge, self._documents, self._texts, self._query = judge, documents, texts, query
        self._measure = EstimatedTokens()
        self._lengths = self._measure.count(texts)
        self.calls = self.rounds = self.tokens = 0
        self.seconds = 0.0

    def __call__(self, questions: Sequence[Question]) -> list[Answer]:
        self.rounds += 1
        self.calls += len(questions)
        self.seconds += DELAY * math.ceil(len(questions) / AT_ONCE)
        self.tokens += sum(map(self._count, questions))
        return [self._answer(question) for question in questions]

    def _count(self, question: Question) -> int:
        recipe = find("grouprank") if question.kind == "grade" else default_for(question.kind)
        empty = recipe.prompt(self._query, [""] * len(question.passages), select=question.count)
        frame = sum(self._measure.count([message.content for message in empty.messages]))
        return frame + sum(self._lengths[passage] for passage in question.passages)

    def _answer(self, question: Question) -> Answer:
        asked = repr((question.kind, [self._documents[passage] for passage in question.passages]))
        seen = {passage: self._judge.seen(self._documents[passage], asked) for passage in question.passages}
        order = tuple(sorted(question.passages, key=lambda passage: -seen[passage]))
        wanted = {"best": 1, "select": question.count}.get(question.kind, len(order))
        return Answer(order[:wanted], seen if question.kind == "grade" else None)


def measure(options: dict[str, Any], judge: Judge, query: str, documents: Sequence[str], texts: Sequence[str]) -> float:
    """Seconds of one query at a server on loopback that answers after a second."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(DELAY)
            text = say(body, judge)
            answer = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with Reranker("judge", backend="llm-listwise", base_url=url, max_concurrency=AT_ONCE, **options) as reranker:
        started = time.perf_counter()
        reranker.rank(query, [f"{document} {text}" for document, text in zip(documents, texts)])
        seconds = time.perf_counter() - started
    server.shutdown()
    return seconds


MARKED = re.compile(r"^(?:\[(\d+)\]\.?|Passage ([A-Z]):|Document (\d+):) \"?(\d+) ", re.MULTILINE)


def say(body: dict[str, Any], judge: Judge) -> str:
    """The answer to a prompt whose passages begin with their documents' names."""
    said = "\n".join(message["content"] for message in body["messages"] if message["role"] == "user")
    listed = {next(filter(None, found[:3])): found[3] for found in MARKED.findall(said)}
    order = sorted(listed, key=lambda name: -judge.seen(listed[name], repr(sorted(listed.items()))))
    if "Document " in said:
        wanted = int(re.findall(r"top (\d+)", said)[-1])
        return ", ".join(f"Document {name}" for name in order[:wanted])
    if "Passage A" in said:
        return f"Passage {order[0]}"
    if "JSON" in said or "json" in said:
        return json.dumps({f"[{name}]": round(10 * (n + 1) / len(order)) for n, name in enumerate(order[::-1])})
    return " > ".join(f"[{name}]" for name in order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--noise", type=float, default=0.6)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    corpus, queries, candidates, bm25, qrels = read_collection(arguments.collection, arguments.queries)
    options = ListwiseOptions(max_passage_tokens=300)
    prompted = Prompted(default_for("order"), EstimatedTokens())
    texts = {
        q: prompted.prepare([corpus[d] for d in documents], options, Tally()) for q, documents in candidates.items()
    }
    grades: dict[str, dict[str, int]] = {}
    for qrel in qrels:
        grades.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    first = ir_measures.calc_aggregate([nDCG @ 10], qrels, bm25)[nDCG @ 10]
    rows = [
        f"# Algorithms on TREC DL 2019, BM25's first {DEPTH}, {len(candidates)} queries, noise {arguments.noise}",
        "",
        f"BM25's own nDCG@10 is {first:.4f}. Calls, rounds and tokens are means per query.",
        "",
        "| algorithm | calls | rounds | prompt tokens | nDCG@10 | seconds, computed | seconds, measured |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (given, algorithm) in ALGORITHMS.items():
        scored, costs = [], []
        for q, documents in candidates.items():
            counted = Counted(Judge(grades.get(q, {}), arguments.noise), documents, texts[q], queries[q])
            outcome = run(without_repeats(algorithm(range(len(documents)))), counted)
            order = outcome if isinstance(outcome, list) else sorted(outcome, key=lambda p: -outcome[p])
            scored += [ir_measures.ScoredDoc(q, documents[p], -float(rank)) for rank, p in enumerate(order)]
            costs.append(counted)
        quality = ir_measures.calc_aggregate([nDCG @ 10], qrels, scored)[nDCG @ 10]
        calls, rounds, tokens, seconds = (
            sum(getattr(cost, field) for cost in costs) / len(costs)
            for field in ("calls", "rounds", "tokens", "seconds")
        )
        measured = "–"
        if seconds <= LONGEST_MEASURED:
            q = next(iter(candidates))
            judge = Judge(grades.get(q, {}), arguments.noise)
            measured = (
                f"{measure({'algorithm': name.split(',')[0], **given}, judge, queries[q], candidates[q], texts[q]):.1f}"
            )
        rows.append(
            f"| {name} | {calls:.1f} | {rounds:.1f} | {tokens:,.0f} | {quality:.4f} | {seconds:.1f} | {measured} |"
        )
        print(rows[-1], flush=True)
    table = "\n".join(rows) + "\n"
    print(table)
    if arguments.write:
        arguments.write.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
