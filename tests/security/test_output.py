"""Texts, ids, names and messages of strangers on a terminal, and in data formats."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank import RankedResults, Reranker, visible

pytest.importorskip("rerank_nano")

HOSTILE = {
    "escape": "a \x1b[31mred\x1b[0m cat",
    "title": "\x1b]0;title\x07b",
    "C1": "a \x9b31m cat",
    "bidi": "a \u202ecat\u2066",
    "delete": "a\x7f\x08 cat",
    "separators": "a\u2028b\u2029c",
}
"""Texts that a terminal would obey."""

ROW = "a\n   9  9.9999  x   forged\r   1  1.0"


def is_plain(printed: str) -> bool:
    """Whether a terminal shows every character."""
    return all(letter.isprintable() or letter == "\n" for letter in printed)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("place", ["text", "id", "query", "model", "file", "option", "usage"])
def test_what_people_read_shows_every_character(run: Callable[..., Any], tmp_path: Path, text: str, place: str) -> None:
    rows = tmp_path / "rows.jsonl"
    row = {"id": text if place == "id" else 1, "text": text if place == "text" else "a"}
    rows.write_text(json.dumps(row), encoding="utf-8")
    named = {
        "model": ["--model", text],
        "option": ["--option", f"{text}=1"],
        "usage": [f"--{text}"],
    }.get(place, [])
    source = text if place == "file" else str(rows)
    ran = run("rank", text if place == "query" else "q", source, *named)
    assert is_plain(ran.out + ran.err)
    assert ran.code == (0 if place in ("text", "id", "query") else ran.code)
    if place == "model":
        assert is_plain(run("explain", text).out)


def test_a_row_cannot_be_forged(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        json.dumps({"id": ROW, "text": ROW}) + "\n" + json.dumps({"id": "b", "text": "b"}), encoding="utf-8"
    )
    ran = run("rank", "q", str(rows))
    assert len(ran.out.splitlines()) == 3
    ranked = Reranker().rank("q", [{"id": ROW, "text": ROW}])
    assert len(str(ranked).splitlines()) == 2
    assert is_plain(str(ranked))
    assert is_plain(repr(ranked[0]))


@pytest.mark.parametrize("output", ["json", "jsonl"])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_is_exact_and_printable(run: Callable[..., Any], output: str, text: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": text, "text": text}), encoding="utf-8")
    ran = run("rank", "q", str(rows), "--format", output)
    assert is_plain(ran.out)
    found = json.loads(ran.out)
    result = found["results"][0] if output == "json" else found
    assert (result["text"], result["doc_id"]) == (text, text)
    if output == "json":
        assert RankedResults.model_validate_json(ran.out)[0].text == text


@pytest.mark.parametrize("output", ["tsv", "trec"])
def test_ids_that_would_become_one_are_refused(run: Callable[..., Any], output: str, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    ids = ["a b", "a_b", "a\tb", "a\nb"]
    rows.write_text("\n".join(json.dumps({"id": name, "text": name}) for name in ids), encoding="utf-8")
    ran = run("rank", "q", str(rows), "--format", output)
    assert (ran.code, ran.out) == (2, "")
    assert "would both be written as 'a_b'" in ran.err


def test_what_is_printable_stays() -> None:
    for text in ("Füße 東京 👩\u200d🔬 नमस्ते اللغة", "a\u200cb", ""):
        assert visible(text) == text
    assert visible("a\tb\nc") == "a b c"
    assert visible("\x1b\x9b\u202e\ud800") == "\\x1b\\x9b\\u202e\\ud800"


def command(*arguments: str, redirect: str = "") -> subprocess.CompletedProcess[str]:
    line = f'exec "$0" -m rerank "$@" {redirect}'
    return subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("arguments", [("rank", "q", "a", "b"), ("list-backends",), ("--help",)])
def test_a_closed_standard_output_is_named(arguments: tuple[str, ...]) -> None:
    ran = command(*arguments, redirect="1>&-")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "rerank: standard output is closed: redirect it to a file, or to /dev/null\n"
