"""What each algorithm of rerank-listwise costs and finds, with a model of known noise in place of a language model.

    python benchmarks/listwise.py ../shared/data/collections/msmarco-dl19 [--queries 43] [--draws 10]
        [--write benchmarks/results/listwise.md]

Candidates are BM25's first 100. The model knows the judgements of NIST (0 to 3) and errs: to each passage's grade it adds one
error that is always the same, and one that is drawn anew for every question, both normal with the same deviation, the noise. Figures
are means over the queries and over several draws of the errors. Prompts and tokens are those of the usual recipes, with passages of
at most 300 tokens. Seconds are those of one query at an endpoint that answers after one second and is asked eight questions at a
time: computed from the rounds, and measured against such a server on loopback where it takes at most a minute. Needs
``pip install ir-measures``.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ir_measures
from ir_measures import nDCG
from quality import read_collection
from turns import CONDITIONS, busy_processes

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
LONGEST_MEASURED = 60.0  # seconds
NOISE = 0.6
OTHER_NOISES = (0.3, 0.45, 0.6, 0.9)

ALGORITHMS: dict[str, tuple[dict[str, Any], Callable[[Sequence[int]], Any]]] = {
    "sliding-window": ({}, lambda c: sliding_window(c, size=20, stride=10)),
    "sliding-window, 2 passes": ({"passes": 2}, lambda c: sliding_window(c, size=20, stride=10, passes=2)),
    "top-down": ({}, lambda c: top_down(c, size=20, pivot=8)),
    "top-down, 1 arrangement": ({"arrangements": 1}, lambda c: top_down(c, size=20, pivot=8, arrangements=1)),
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
        draw: Which draw of the errors.
    """

    def __init__(self, grades: dict[str, int], noise: float, draw: int = 0) -> None:
        self._grades, self._noise, self._draw = grades, noise, draw

    def seen(self, document: str, question: str) -> float:
        """The grade of a document, as the model sees it in a question."""
        lasting = random.Random(f"{self._draw} {document}").gauss(0, self._noise)
        fresh = random.Random(f"{self._draw} {document} {question}").gauss(0, self._noise)
        return self._grades.get(document, 0) + lasting + fresh


class StandIn:
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
        return Answer(order[: question.wanted], seen if question.kind == "grade" else None)


class Endpoint(ThreadingHTTPServer):
    """A chat server on loopback that answers after a second, as the model does."""

    def __init__(self, judge: Judge) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one packet

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

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


MARKED = re.compile(r"^(?:\[(\d+)\]\.?|Passage ([A-Z]):|Document (\d+):) \"?(\d+) ", re.MULTILINE)


def say(body: dict[str, Any], judge: Judge) -> str:
    """The answer to a prompt whose passages begin with their documents' names."""
    said = "\n".join(message["content"] for message in body["messages"] if message["role"] == "user")
    listed = {next(filter(None, found[:3])): found[3] for found in MARKED.findall(said)}
    order = sorted(listed, key=lambda name: -judge.seen(listed[name], repr(sorted(listed.items()))))
    if wanted := re.search(r"top (\d+) documents", said):
        return ", ".join(f"Document {name}" for name in order[: int(wanted[1])])
    if "Output Passage A or Passage B" in said or "passage label" in said:
        return f"Passage {order[0]}"
    if "Score these documents" in said:
        return json.dumps({f"[{name}]": round(10 * (n + 1) / len(order)) for n, name in enumerate(order[::-1])})
    return " > ".join(f"[{name}]" for name in order)


@dataclass(frozen=True)
class Figures:
    """Means per query."""

    calls: float
    rounds: float
    tokens: float
    quality: float
    seconds: float


class Collection:
    """A collection's queries and candidates, with their texts as prompts show them.

    Args:
        folder: Where it is.
        limit: How many of its queries; None takes all.
    """

    def __init__(self, folder: Path, limit: int | None) -> None:
        corpus, self.queries, self.candidates, self.bm25, self.qrels = read_collection(folder, limit)
        options = ListwiseOptions(max_passage_tokens=300)
        prompted = Prompted(default_for("order"), EstimatedTokens())
        self.texts = {
            q: prompted.prepare([corpus[d] for d in documents], options, Tally())
            for q, documents in self.candidates.items()
        }
        self.grades: dict[str, dict[str, int]] = {q: {} for q in self.candidates}
        for qrel in self.qrels:
            self.grades[qrel.query_id][qrel.doc_id] = qrel.relevance

    def evaluate(self, name: str, noise: float, draws: int) -> Figures:
        """Run an algorithm for every query, with several draws of the errors."""
        algorithm = ALGORITHMS[name][1]
        costs, quality = [], 0.0
        for draw in range(draws):
            scored = []
            for q, documents in self.candidates.items():
                stand_in = StandIn(Judge(self.grades[q], noise, draw), documents, self.texts[q], self.queries[q])
                outcome = run(without_repeats(algorithm(range(len(documents)))), stand_in)
                order = outcome if isinstance(outcome, list) else sorted(outcome, key=lambda p: -outcome[p])
                scored += [ir_measures.ScoredDoc(q, documents[p], -float(rank)) for rank, p in enumerate(order)]
                costs.append(stand_in)
            quality += self.judge(scored) / draws
        calls, rounds, tokens, seconds = (
            sum(getattr(cost, field) for cost in costs) / len(costs)
            for field in ("calls", "rounds", "tokens", "seconds")
        )
        return Figures(calls, rounds, tokens, quality, seconds)

    def judge(self, scored: Sequence[Any]) -> float:
        """nDCG@10 of a run."""
        return float(ir_measures.calc_aggregate([nDCG @ 10], self.qrels, scored)[nDCG @ 10])

    def measure(self, name: str, callers: int = 1) -> float:
        """Seconds until the first query is ranked at a server that answers after a second.

        Several callers of one reranker ask the same at the same time, and the seconds are those of the last.
        """
        q, documents = next(iter(self.candidates.items()))
        named = [f"{document} {text}" for document, text in zip(documents, self.texts[q])]
        server = Endpoint(Judge(self.grades[q], NOISE))
        with (
            Reranker(
                "judge",
                backend="llm-listwise",
                base_url=f"http://127.0.0.1:{server.server_port}/v1",
                max_concurrency=AT_ONCE,
                algorithm=name.partition(",")[0],
                **ALGORITHMS[name][0],
            ) as reranker,
            ThreadPoolExecutor(callers) as pool,
        ):
            started = time.perf_counter()
            list(pool.map(lambda _: reranker.rank(self.queries[q], named), range(callers)))
            seconds = time.perf_counter() - started
        server.shutdown()
        server.server_close()
        return seconds


def compare_algorithms(collection: Collection, draws: int) -> list[str]:
    """The table of all algorithms."""
    rows = [
        f"With noise {NOISE}:",
        "",
        "| algorithm | calls | rounds | prompt tokens | nDCG@10 | seconds, computed | seconds, measured |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in ALGORITHMS:
        found = collection.evaluate(name, NOISE, draws)
        measured = f"{collection.measure(name):.1f}" if found.seconds <= LONGEST_MEASURED else "–"
        rows.append(
            f"| {name} | {found.calls:.1f} | {found.rounds:.1f} | {found.tokens:,.0f} | {found.quality:.4f} "
            f"| {found.seconds:.1f} | {measured} |"
        )
        print(rows[-1], flush=True)
    return rows


def compare_noises(collection: Collection, draws: int) -> list[str]:
    """The table of the sliding window and top-down, with models of more and less noise."""
    rows = [
        "The sliding window and top-down, with models that err less and more:",
        "",
        "| noise | sliding-window: nDCG@10 | seconds | top-down: nDCG@10 | seconds | speed-up |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for noise in OTHER_NOISES:
        sliding, top = (collection.evaluate(name, noise, draws) for name in ("sliding-window", "top-down"))
        rows.append(
            f"| {noise} | {sliding.quality:.4f} | {sliding.seconds:.2f} | {top.quality:.4f} | {top.seconds:.2f} "
            f"| {sliding.seconds / top.seconds:.2f}× |"
        )
        print(rows[-1], flush=True)
    return rows


def compare_conditions(collection: Collection) -> list[str]:
    """The table of the same two where other processes run and other callers wait."""
    rows = [
        "The same two, measured for the first query; several callers share one reranker and its eight requests at a time:",
        "",
        "| condition | sliding-window: seconds | top-down: seconds | speed-up |",
        "|---|---:|---:|---:|",
    ]
    for condition in CONDITIONS:
        with busy_processes(condition.busy):
            sliding, top = (collection.measure(name, condition.callers) for name in ("sliding-window", "top-down"))
        rows.append(f"| {condition} | {sliding:.2f} | {top:.2f} | {sliding / top:.2f}× |")
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    collection = Collection(arguments.collection, arguments.queries)
    title = f"# Algorithms on TREC DL 2019, BM25's first {DEPTH}, {len(collection.candidates)} queries"
    first = f"BM25's own nDCG@10 is {collection.judge(collection.bm25):.4f}. Figures are means over {arguments.draws} draws."
    tables = [
        compare_algorithms(collection, arguments.draws),
        compare_noises(collection, arguments.draws),
        compare_conditions(collection),
    ]
    page = "\n\n".join([title, first, *map("\n".join, tables)]) + "\n"
    print(page)
    if arguments.write:
        arguments.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
