"""The page about algorithms shows the figures that the benchmark wrote."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def tables(file: str) -> list[list[str]]:
    blocks = (ROOT / file).read_text(encoding="utf-8").split("\n\n")
    return [block.strip().splitlines() for block in blocks if block.startswith("|")]


def test_its_tables_are_the_benchmarks_own() -> None:
    measured = tables("benchmarks/results/listwise.md")
    shown = tables("docs/algorithms.md")
    assert measured[:2] == shown[1:]
