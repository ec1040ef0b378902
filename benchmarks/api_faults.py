"""Calls at concurrency 32 to a server that fails 30 % of its responses, and how much memory they leave in use.

    python benchmarks/api_faults.py --calls 2000

Writes ``benchmarks/results/api_faults.md``; exits with 1 if a call ends wrong, late, lost or untyped, or if memory
grows by more than 10 MB between call 200 and the last.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "rerank_api"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "rerank_http"))

from api_faults import DEADLINE, KINDS, SHARE, FaultyServer, faulty_reranker, run_calls

CONCURRENCY = 32
EARLY = 200
RESULTS = Path(__file__).parent / "results" / "api_faults.md"


@dataclass
class Run:
    """What became of one provider's calls."""

    provider: str
    calls: int
    requests: int
    injected: Counter[str]
    outcomes: Counter[str]
    more: Counter[str]
    seconds: float
    memory: dict[int, float] = field(default_factory=dict)

    @property
    def growth(self) -> float:
        return self.memory[self.calls] - self.memory[min(EARLY, self.calls)]

    @property
    def bad(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome not in ("succeeded", "typed failures"))

    @property
    def lost(self) -> int:
        return self.calls - sum(count for outcome, count in self.outcomes.items() if outcome != "late")


def resident_megabytes() -> float:
    """Memory of this process, the server's thread included."""
    gc.collect()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def run(provider: str, calls: int, seed: int) -> Run:
    server = FaultyServer(seed)
    memory: dict[int, float] = {}

    def after(done: int) -> None:
        if done in (min(EARLY, calls), calls):
            memory[done] = resident_megabytes()

    async def all_calls() -> tuple[Counter[str], Counter[str]]:
        async with faulty_reranker(provider, server) as reranker:
            return await run_calls(reranker, calls, CONCURRENCY, after)

    started = time.perf_counter()
    try:
        outcomes, more = asyncio.run(all_calls())
    finally:
        server.loopback.close()
    seconds = time.perf_counter() - started
    return Run(provider, calls, server.loopback.count, server.injected, outcomes, more, seconds, memory)


def table(runs: list[Run]) -> str:
    lines = [
        "# Calls against a faulty server",
        "",
        (
            f"`python benchmarks/api_faults.py --calls {runs[0].calls}`: {SHARE:.0%} of all responses are faults, drawn evenly "
            f"from {', '.join(KINDS)}; concurrency {CONCURRENCY}, a deadline of {DEADLINE:g} s a call, default retries and "
            "retry budget. Truncated JSON and wrong indices are not tried again: they are typed failures. No two calls share "
            "a document, so an answer to another call would count as wrong."
        ),
        "",
        (
            "| provider | calls | requests | faults injected | retried | succeeded | typed failures | wrong | late | lost "
            "| untyped | seconds |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in runs:
        untyped = sum(count for outcome, count in r.outcomes.items() if outcome.startswith("untyped"))
        cells = [
            r.provider, r.calls, r.requests, sum(r.injected.values()), r.requests - r.calls, r.outcomes["succeeded"],
            r.outcomes["typed failures"], r.outcomes["wrong"], r.outcomes["late"], r.lost, untyped, f"{r.seconds:.1f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| fault injected | " + " | ".join(r.provider for r in runs) + " |", "|---|" + "---:|" * len(runs)]
    lines += [f"| {kind} | " + " | ".join(str(r.injected[kind]) for r in runs) + " |" for kind in KINDS]
    lines += [
        "",
        "Resident memory of the whole process, the server's thread included:",
        "",
        f"| provider | after {min(EARLY, runs[0].calls)} calls | after {runs[0].calls} calls | growth |",
        "|---|---:|---:|---:|",
    ]
    for r in runs:
        early, late = r.memory[min(EARLY, r.calls)], r.memory[r.calls]
        lines.append(f"| {r.provider} | {early:.1f} MB | {late:.1f} MB | {r.growth:+.1f} MB |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    runs = [run(provider, arguments.calls, arguments.seed) for provider in ("cohere", "jina")]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(table(runs), encoding="utf-8")
    print(table(runs))
    return int(any(r.bad or r.lost or r.growth > 10 for r in runs))


if __name__ == "__main__":
    sys.exit(main())
