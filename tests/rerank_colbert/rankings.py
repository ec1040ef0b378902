"""Hand-made rankings with token matches, and the texts that a picture of them must survive."""

from __future__ import annotations

import re
from typing import Any

from rerank import RankedResults, Result

HOSTILE = {
    "markup": "<script>alert(1)</script> &amp; \"quoted\" 'single' </style></title>--> <img src=x onerror=alert(1)>",
    "escape sequences": "\x1b[2J\x1b]0;owned\x07 red \x1b[31m \x9b1m",
    "nulls and controls": "a\x00b\x08\x7f\x80\r\nnext\tline\x0b\x0c",
    "bidirectional controls": "user\u202egnp.exe\u202c \u2066isolated\u2069 \u200f",
    "lone surrogates": "a\ud800b\udfff",
    "emoji and combining marks": "e\u0301tude 👩‍👩‍👧 👍🏽 z" + "\u0301\u0323" * 500,
    "right to left": "النحل يصنع العسل דבורים",
    "Chinese and Japanese": "蜜蜂能酿蜜。ミツバチは蜂蜜を作る",
    "mathematics": "$x^2$ and $\\frac$ {braces} %s %(x)s",
    "white space": " \u2028\u2029\u3000\xa0 " * 3,
    "long": "honey " * 17_000,
}


def match(query: str, document: str, start: int | None, end: int | None, score: float) -> dict[str, Any]:
    return {"query": query, "document": document, "start": start, "end": end, "score": score, "window": 0}


def result(text: str, queries: list[str], rank: int = 1, doc_id: str | int = "d1") -> Result:
    """A result whose document tokens are a special token and the words of the text, with made-up scores."""
    spans = [found.span() for found in re.finditer(r"\S+", text)][:200]
    names = ["[CLS]", *(text[start:end] for start, end in spans)]
    all_spans = [None, *spans]
    scores = [[((3 * row + 7 * column) % 11) / 10 - 0.1 for column in range(len(names))] for row in range(len(queries))]
    best = [max(range(len(names)), key=row.__getitem__) for row in scores]
    return Result(
        doc_id=doc_id,
        text=text,
        score=sum(map(max, scores)),
        rank=rank,
        details={
            "matches": [
                match(query, names[column], *(all_spans[column] or (None, None)), row[column])
                for query, column, row in zip(queries, best, scores)
            ],
            "matrix": {"query": queries, "document": names, "spans": all_spans, "scores": scores},
        },
    )


def ranking(*results: Result, query: str = "what do bees make?") -> RankedResults:
    return RankedResults(
        results=list(results), query=query, has_scores=True, model="fake", backend="colbert", scale="similarity"
    )


def hostile_ranking(name: str) -> RankedResults:
    text = HOSTILE[name]
    return ranking(result(f"start {text} end", [text, "make", "[MASK]"], doc_id=text), query=text)
