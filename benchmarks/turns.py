"""Systems that rank the same queries in turn: quiet or beside busy processes, for one caller or four at once.

A module, not a script: the benchmarks of this folder describe their systems, and `report` compares them. Each system has
a process of its own, which is started once, loads its model, warms up, and then ranks only when it is asked to. Apart
from the busy processes, only one works at any moment.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

Query = tuple[str, list[str]]
"""A query with its documents."""

Rank = Callable[[str, list[str]], list[float]]
"""From a query and its documents to one raw score per document, in their order."""

BUSY = 2  # processes
CALLERS = 4
WARM = 8  # documents per query before the first turn
TOLERANCE = 1e-4

SPIN = """
import os
parent = os.getppid()
print("spinning", flush=True)
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@dataclass(frozen=True)
class System:
    """What one row of the table measures.

    Args:
        name: The name of the row.
        start: Loads the model and returns what ranks with it; called in the system's own process.
        distribution: The distribution whose version the row shows.
        checkout: The checkout of this repository to import our packages from; None imports the installed ones.
        packages: A folder of packages that only this system's process imports, before the installed ones.
        tolerance: How far its scores may be from the first system's.
    """

    name: str
    start: Callable[[], Rank]
    distribution: str
    checkout: Path | None = None
    packages: Path | None = None
    tolerance: float = TOLERANCE

    @property
    def version(self) -> str:
        if self.checkout:
            return commit(self.checkout)
        if self.packages:
            own, below = (find_version(name, self.packages) for name in (self.distribution, "transformers"))
            return f"{own}, transformers {below}"
        return importlib.metadata.version(self.distribution)


@dataclass(frozen=True)
class Condition:
    """What else runs while a system ranks, and how many threads call it at once."""

    busy: int
    callers: int

    def __str__(self) -> str:
        beside = f"Beside {self.busy} busy processes" if self.busy else "Quiet"
        return f"{beside}, {f'{self.callers} callers at once' if self.callers > 1 else 'one caller'}"


CONDITIONS = [Condition(busy, callers) for busy in (0, BUSY) for callers in (1, CALLERS)]


@dataclass(frozen=True)
class Turn:
    """What it took one system to rank all queries once.

    Args:
        seconds: Wall time.
        cpu_seconds: User and system time of its process, all threads together.
        memory: Peak memory in MiB; on CUDA that of the device.
        scores: The scores of each query, in order.
    """

    seconds: float
    cpu_seconds: float
    memory: float
    scores: list[list[float]]

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s"


@dataclass(frozen=True)
class Failure:
    """An exception in a system's process.

    Args:
        error: Its type and message.
        trace: Its traceback.
        missing: Whether something could not be imported.
    """

    error: str
    trace: str
    missing: bool

    def __str__(self) -> str:
        return f"failed: {self.error}"


Key = tuple[Condition, System]
Outcomes = dict[Key, list[Turn | Failure]]


def commit(checkout: Path) -> str:
    """The short name of a checkout's commit."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def find_version(distribution: str, folder: Path) -> str:
    """The version of a distribution in a folder of packages."""
    return next(iter(importlib.metadata.distributions(name=distribution, path=[str(folder)]))).version


def ranker(reranker: Any) -> Rank:
    """A `Reranker` as the function that a `System` returns."""

    def rank(query: str, documents: list[str]) -> list[float]:
        ranked = reranker.rank(query, documents, progress=False)
        return [result.score for result in sorted(ranked, key=lambda result: result.index)]

    return rank


# The command line that all benchmarks share


def parse_arguments(description: str | None, names: Sequence[str], **more: Mapping[str, Any]) -> argparse.Namespace:
    """Read the command line.

    Args:
        description: What the script measures.
        names: The systems to choose from, ours first.
        more: Further options, each with the arguments of ``add_argument``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with collections/ and tokenizers/")
    parser.add_argument("--rounds", type=int, default=5, help="turns per system and condition")
    parser.add_argument("--documents", type=int, default=100, help="documents per query")
    parser.add_argument(
        "--queries", type=int, default=1, help=f"queries per caller; one caller ranks {CALLERS} times as many"
    )
    parser.add_argument(
        "--one-caller", action="store_true", help="not also four callers at once, and a quarter of the queries"
    )
    parser.add_argument("--systems", nargs="+", choices=names, default=names, help="only these")
    parser.add_argument(
        "--before", type=Path, metavar="PATH", help="also ours as it is in this checkout of an earlier commit"
    )
    parser.add_argument("--budgets", type=int, nargs="+", default=[], help="also ours with these max_batch_tokens")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    for option, settings in more.items():
        parser.add_argument(f"--{option}", **settings)
    arguments = parser.parse_args()
    if arguments.before and not (arguments.before / "core/src").is_dir():
        parser.error(f"--before {arguments.before} has no core/src: name a checkout of this repository")
    return arguments


def count_queries(arguments: argparse.Namespace) -> int:
    """How many queries a turn ranks."""
    return arguments.queries * (1 if arguments.one_caller else CALLERS)


def choose_systems(starts: Mapping[str, Callable[..., Rank]], arguments: argparse.Namespace) -> list[System]:
    """The systems that the command line asks for.

    Args:
        starts: How to start each system by the name of its distribution, ours first; ours takes a ``budget``.
        arguments: From `parse_arguments`.
    """
    ours, start = next(iter(starts.items()))
    systems = [System(ours, start, ours)] if ours in arguments.systems else []
    if arguments.before:
        systems.append(System(f"{ours}, before", start, ours, arguments.before.resolve()))
    systems += [System(f"{ours}, {n} tokens per batch", partial(start, budget=n), ours) for n in arguments.budgets]
    systems += [System(name, peer, name) for name, peer in starts.items() if name != ours and name in arguments.systems]
    return systems


# In a system's own process


def serve(connection: Connection, system: System) -> None:
    """Load a system, then rank what the parent sends until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    logging.disable(logging.WARNING)
    if system.checkout:
        sys.path[:0] = [str(system.checkout / "core/src"), *map(str, system.checkout.glob("plugins/*/src"))]
    if system.packages:
        sys.path.insert(0, str(system.packages))
    pools = {callers: ThreadPoolExecutor(callers) for callers in (1, CALLERS)}
    try:
        rank = system.start()
        if system.checkout:
            check_origin(system.checkout)
    except Exception as error:
        connection.send(failure(error))
        return
    with suppress(EOFError, ConnectionError):  # until the parent closes
        connection.send(None)
        while True:
            callers, queries = connection.recv()
            try:
                answer: Turn | Failure = take_turn(rank, queries, callers, pools[callers])
            except Exception as error:
                answer = failure(error)
            connection.send(answer)


def check_origin(checkout: Path) -> None:
    origin = Path(str(sys.modules["rerank"].__file__))
    if not origin.is_relative_to(checkout):
        raise RuntimeError(f"rerank was imported from {origin}, not from {checkout}: check what imports it first")


def take_turn(rank: Rank, queries: Sequence[Query], callers: int, pool: ThreadPoolExecutor) -> Turn:
    """Rank all queries, each caller its own share of them in a thread of its own."""

    def call(caller: int) -> list[list[float]]:
        return [rank(query, documents) for query, documents in queries[caller::callers]]

    reset_peak_memory()
    started, cpu_started = time.perf_counter(), time.process_time()
    shares = list(pool.map(call, range(callers)))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    scores = [shares[n % callers][n // callers] for n in range(len(queries))]
    return Turn(seconds, cpu_seconds, peak_memory(), scores)


def reset_peak_memory() -> None:
    if torch := torch_on_cuda():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # starts Linux's VmHWM anew


def peak_memory() -> float:
    """Peak memory of this process since the last reset, in MiB; on CUDA that of the device."""
    if torch := torch_on_cuda():
        return float(torch.cuda.max_memory_allocated() / 2**20)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def torch_on_cuda() -> Any:
    """The module torch where this process uses CUDA, else None."""
    torch = sys.modules.get("torch")
    return torch if torch and torch.cuda.is_initialized() else None


def failure(error: Exception) -> Failure:
    return Failure(
        error=f"{type(error).__name__}: {error}",
        trace="".join(traceback.format_exception(error)),
        missing=isinstance(error, ImportError),
    )


# In the parent


class Child:
    """A system's own process, seen from the parent."""

    def __init__(self, system: System) -> None:
        context = multiprocessing.get_context("spawn")
        self.system = system
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, system))
        self.process.start()
        theirs.close()

    def loaded(self) -> Failure | None:
        """Wait until the system is loaded.

        Returns:
            None, or why it could not be.
        """
        return cast("Failure | None", self._receive())

    def rank(self, queries: Sequence[Query], callers: int) -> Turn | Failure:
        self.connection.send((callers, queries))
        return cast("Turn | Failure", self._receive())

    def _receive(self) -> object:
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            sys.exit(f"{self.system.name} ended with exit code {self.process.exitcode}: see what it wrote above")

    def close(self) -> None:
        """End the process, also in the middle of a turn."""
        self.connection.close()
        self.process.join(timeout=5)
        self.process.terminate()
        self.process.join()


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processes busy during the block; they also end when this process dies."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield


def start_children(systems: Sequence[System], queries: Sequence[Query], stack: ExitStack) -> list[Child]:
    """Load every system in a process of its own and warm it up; one that is not installed is left out with a line."""
    children = []
    for system in systems:
        child = Child(system)
        stack.callback(child.close)
        failed = child.loaded()
        if failed and failed.missing:
            print(f"left out: {system.name} ({failed.error})")
            continue
        if failed:
            sys.exit(f"{system.name} does not start:\n{failed.trace}")
        few = [(query, documents[:WARM]) for query, documents in queries]
        for callers in (1, CALLERS):
            child.rank(few[:callers], callers)
        children.append(child)
    return children


def compare(
    systems: Sequence[System], queries: Sequence[Query], conditions: Sequence[Condition], rounds: int
) -> Outcomes:
    """Give every system a turn under every condition, in each round."""
    with ExitStack() as stack:
        children = start_children(systems, queries, stack)
        outcomes: Outcomes = {(condition, child.system): [] for condition in conditions for child in children}
        expected = None
        for round_, condition in product(range(1, rounds + 1), conditions):
            print(f"Round {round_}. {condition}:", flush=True)
            with busy_processes(condition.busy):
                for child in children:
                    outcome = child.rank(queries, condition.callers)
                    outcomes[condition, child.system].append(outcome)
                    if isinstance(outcome, Turn):
                        expected = expected or outcome.scores
                        check_scores(child.system, outcome.scores, expected)
                    print(f"  {child.system.name}: {outcome}", flush=True)
    return outcomes


def largest_difference(scores: list[list[float]], others: list[list[float]]) -> float:
    return max(abs(a - b) for some, other in zip(scores, others) for a, b in zip(some, other))


def check_scores(system: System, scores: list[list[float]], expected: list[list[float]]) -> None:
    """Compare scores with those of the first turn.

    Raises:
        SystemExit: One differs by more than the system's tolerance.
    """
    if list(map(len, scores)) != list(map(len, expected)):
        sys.exit(f"{system.name} does not give one score per document: check what its function returns")
    difference = largest_difference(scores, expected)
    if not difference <= system.tolerance:
        sys.exit(
            f"scores of {system.name} differ from the first system's by up to {difference:.2g}: compare the two alone"
        )


# The table


def table(outcomes: Outcomes, queries: Sequence[Query]) -> str:
    """One Markdown table per condition, a row per system."""
    medians = {
        key: statistics.median(turn.seconds for turn in turns) / len(queries)
        for key, outcome in outcomes.items()
        if (turns := successful(outcome))
    }
    first = next(system for _, system in outcomes)
    reference = next(turns[0].scores for outcome in outcomes.values() if (turns := successful(outcome)))

    columns = [
        "seconds per query",
        "spread",
        f"time relative to {first.name}",
        "time relative to quiet",
        "documents per second",
        "throughput relative to one caller",
        "processor seconds per query",
        "peak memory (MiB)",
        "largest score difference",
    ]

    def ratio(key: Key, other: Key) -> str:
        return f"{medians[key] / medians[other]:.2f}×" if key in medians and other in medians else ""

    def row(condition: Condition, system: System) -> list[str]:
        key = condition, system
        turns = successful(outcomes[key])
        if not turns:
            return [system.name, system.version, str(outcomes[key][-1]), *[""] * (len(columns) - 1)]
        per_query = [turn.seconds / len(queries) for turn in turns]
        return [
            system.name,
            system.version,
            f"{medians[key]:.3f}",
            f"{min(per_query):.3f}–{max(per_query):.3f}",
            ratio(key, (condition, first)),
            ratio(key, (replace(condition, busy=0), system)),
            f"{len(queries[0][1]) / medians[key]:.0f}",
            ratio((replace(condition, callers=1), system), key),
            f"{statistics.median(turn.cpu_seconds for turn in turns) / len(queries):.3f}",
            f"{max(turn.memory for turn in turns):.0f}",
            f"{max(largest_difference(turn.scores, reference) for turn in turns):.1g}",
        ]

    lines = []
    for condition in dict.fromkeys(condition for condition, _ in outcomes):
        lines += [
            f"\n## {condition}\n",
            f"| {' | '.join(['system', 'version', *columns])} |",
            "|---|---|" + "---:|" * len(columns),
        ]
        lines += [f"| {' | '.join(row(*key))} |" for key in outcomes if key[0] == condition]
    return "\n".join(lines)


def successful(outcomes: Sequence[Turn | Failure]) -> list[Turn]:
    """The turns of a system, or none where any of them failed."""
    turns = [outcome for outcome in outcomes if isinstance(outcome, Turn)]
    return turns if len(turns) == len(outcomes) else []


def report(
    title: str, setting: str, systems: Sequence[System], queries: Sequence[Query], arguments: argparse.Namespace
) -> None:
    """Compare systems, print the table, and write it where the command line says so.

    Args:
        title: The heading.
        setting: What is ranked, and with what.
        systems: What to compare; ratios are to the first.
        queries: What one turn ranks; each with as many documents.
        arguments: From `parse_arguments`.
    """
    load = os.getloadavg()[0]
    conditions = [condition for condition in CONDITIONS if condition.callers == 1 or not arguments.one_caller]
    outcomes = compare(systems, queries, conditions, arguments.rounds)
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores"
    rounds = "one round" if arguments.rounds == 1 else f"medians of {arguments.rounds} rounds"
    method = f"one process per system, the systems in turn, {rounds}"
    text = (
        f"# {title}\n\n{setting}.\n{machine}, load {load:.1f} before the start; {method}.\n{table(outcomes, queries)}"
    )
    print(f"\n{text}")
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(f"{text}\n", encoding="utf-8")
