"""Recorded calls of real listwise models on TREC DL 2019, from the data folder; a module, not tests."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

WORDS = 300
"""The recorders cut passages after so many words."""

_MARK = re.compile(r"^\[\d+\] ", re.MULTILINE)
_TURN = re.compile(r"USER: \[(\d+)\] (.*?) ASSISTANT: Received passage", re.DOTALL)


@dataclass(frozen=True)
class Call:
    """One call: the literal prompt and response, and the passages in the prompt."""

    prompt: str
    response: str
    passages: tuple[str, ...]


def read_calls(shared: Path, name: str) -> list[Call]:
    """The calls of one recording, in the order in which they were made."""
    with gzip.open(shared / "data" / "llm_outputs" / f"{name}.responses.json.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    return [Call(row["prompt"], row["response"], passages_in(row["prompt"])) for row in _objects(text)]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    while (at := _skip(text, at)) < len(text):
        found, at = decoder.raw_decode(text, at)
        yield found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \n\r\t,[]":
        at += 1
    return at


def passages_in(prompt: str) -> tuple[str, ...]:
    """The passages of a recorded prompt: a line each, or a turn each."""
    turns = _TURN.findall(prompt)
    if turns:
        return tuple(passage for _, passage in turns)
    listed = prompt.split("\n\n", 1)[1].split("\nSearch Query:", 1)[0]
    return tuple(passage.rstrip("\n") for passage in _MARK.split(listed)[1:])


def cut(text: str) -> str:
    """A passage as the recorders cut it."""
    return " ".join(text.replace("Title: Content: ", "").strip().split()[:WORDS])


def read_run(file: Path) -> dict[str, list[str]]:
    """A run: the documents of each query, best first."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    ranked: dict[str, list[tuple[int, str]]] = {}
    for line in content.decode().splitlines():
        query, _, document, rank, *_ = line.split()
        ranked.setdefault(query, []).append((int(rank), document))
    return {query: [document for _, document in sorted(found)] for query, found in ranked.items()}


def read_corpus(shared: Path) -> dict[str, str]:
    """The text of each document of TREC DL 2019."""
    lines = (shared / "data/collections/msmarco-dl19/corpus.jsonl").read_text(encoding="utf-8").split("\n")
    rows = (json.loads(line) for line in lines if line)
    return {str(row["_id"]): row["text"] for row in rows}


def key(text: str) -> str:
    """What two spellings of a passage share.

    Some recorders mended broken characters, HTML's entities and ligatures (``ﬁ``), and others did not.
    """
    return "".join(re.findall(r"[a-eghj-km-zA-Z0-9]", unescape(unescape(text))))
