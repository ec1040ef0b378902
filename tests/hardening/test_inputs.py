"""One table of hostile inputs for every backend, through the library and the command.

Each input gives a ranking of every document, or a `RerankError` that says what was wrong and ends with the next step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rerank import InvalidInputError, InvalidOptionsError, RankedResults, Reranker, RerankError

QUERY = "how do bees find flowers?"
PLAIN = ["A bee finds flowers by their colour.", "Shares rose on Friday."]


class Refused(NamedTuple):
    """An input that no backend may take, and what its error says."""

    arguments: dict[str, Any]
    message: str
    kind: type[RerankError] = InvalidInputError


REFUSED = {
    "empty query": Refused({"query": ""}, "the query is empty: give some text"),
    "blank query": Refused({"query": " \n\t\u2003"}, "the query is empty: give some text"),
    "query None": Refused({"query": None}, "the query is None: give a str"),
    "query bytes": Refused({"query": b"bees"}, "the query is of type bytes: decode it first"),
    "query number": Refused({"query": 3.5}, "the query is of type float: give a str"),
    "query list": Refused({"query": ["bees"]}, "the query is of type list: give a str"),
    "query surrogate": Refused(
        {"query": "bees \udc80"}, r"the query contains the lone surrogate U\+DC80 at position 5: "
    ),
    "docs None": Refused({"docs": None}, r"docs must be a list, but is None: put it in \[ \]"),
    "docs text": Refused({"docs": "one text"}, r"docs must be a list, but is of type str: put it in \[ \]"),
    "docs bytes": Refused({"docs": b"one text"}, r"docs must be a list, but is of type bytes: put it in \[ \]"),
    "docs number": Refused({"docs": 3}, r"docs must be a list, but is of type int: put it in \[ \]"),
    "docs mapping": Refused({"docs": {"text": "a"}}, r"docs must be a list, but is of type dict: put it in \[ \]"),
    "doc None": Refused({"docs": [*PLAIN, None]}, "document 2 is None: give a str"),
    "doc bytes": Refused({"docs": [b"a bee", *PLAIN]}, "document 0 is of type bytes: give a str"),
    "doc number": Refused({"docs": [PLAIN[0], 7]}, "document 1 is of type int: give a str"),
    "doc nan": Refused({"docs": [PLAIN[0], float("nan")]}, "document 1 is of type float: give a str"),
    "doc nested": Refused({"docs": [PLAIN]}, "document 0 is of type list: give a str"),
    "doc nested deep": Refused({"docs": [*PLAIN, [[["a"]]]]}, "document 2 is of type list: give a str"),
    "text None": Refused({"docs": [{"text": None}]}, "the text of document 0 is None: give a str"),
    "text list": Refused({"docs": [{"text": PLAIN}]}, "the text of document 0 is of type list: give a str"),
    "no text": Refused({"docs": [{"cover": "a"}]}, r"document 0 has no 'text' among its keys \['cover'\]: add it"),
    "surrogate first": Refused(
        {"docs": ["\ud800 a bee"]}, r"the text of document 0 contains the lone surrogate U\+D800"
    ),
    "surrogate pair apart": Refused(
        {"docs": [PLAIN[0], "\ude00\ud83d"]}, r"document 1 contains the lone surrogate U\+DE00"
    ),
    "ids too few": Refused({"doc_ids": ["a"]}, "doc_ids has 1 entries for 2 documents: give one per document"),
    "ids too many": Refused({"doc_ids": [1, 2, 3]}, "doc_ids has 3 entries for 2 documents: give one per document"),
    "ids equal": Refused({"doc_ids": [1, 1]}, "documents 0 and 1 have the same id 1"),
    "ids text": Refused({"doc_ids": "ab"}, r"doc_ids must be a list, but is of type str: put it in \[ \]"),
    "id float": Refused({"doc_ids": [1.5, 2]}, "the id of document 0 is of type float: give a str or an int"),
    "id surrogate": Refused({"doc_ids": ["a", "\udfff"]}, r"the id of document 1 contains the lone surrogate U\+DFFF"),
    "metadata too few": Refused({"metadata": [{}]}, "metadata has 1 entries for 2 documents: give one per document"),
    "top_k 0": Refused({"top_k": 0}, "top_k must be a whole number of at least 1, not 0: leave it out to keep all"),
    "top_k -1": Refused({"top_k": -1}, "top_k must be a whole number of at least 1, not -1: leave it out to keep all"),
    "top_k text": Refused(
        {"top_k": "3"}, "top_k must be a whole number of at least 1, not '3': leave it out to keep all"
    ),
    "top_k true": Refused(
        {"top_k": True}, "top_k must be a whole number of at least 1, not True: leave it out to keep all"
    ),
    "option unknown": Refused(
        {"normalise": True}, "'normalise' is unknown, did you mean 'normalize'", InvalidOptionsError
    ),
    "option wrong": Refused({"batch_size": 0}, "'batch_size': .* greater than or equal to 1", InvalidOptionsError),
    "option None": Refused({"normalize": None}, "'normalize': .*boolean", InvalidOptionsError),
}

TAKEN = {
    "empty document": ["", *PLAIN],
    "blank document": [" \t\n", "\u2003", *PLAIN],
    "100,000 characters": ["a bee " * 16_667, *PLAIN],
    "100,000 characters without a space": ["x" * 100_000, *PLAIN],
    "100,000 ideographs": ["蜜" * 100_000, *PLAIN],
    "right to left": ["كيف يجد النحل الأزهار؟", "איך דבורים מוצאות פרחים?", "\u202eflowers\u202c", *PLAIN],
    "CJK": ["蜜蜂はどうやって花を見つけるのでしょうか。", "蜜蜂如何找到花朵？", "꿀벌은 꽃을 어떻게 찾나요?", *PLAIN],
    "combining marks": ["e" + "\u0301" * 500, "Z͑ͫa̴l̵g̷o", "ﷺ" * 50, *PLAIN],
    "emoji": ["👩‍👩‍👧‍👦" * 20, "🇫🇷🏴󠁧󠁢󠁥󠁮󠁧󠁿", *PLAIN],
    "control characters": ["\x00", "a\x00bee\x1b[31m", "\x7f\x80\x9f", "\ufeff\ufffe\uffff\U0010ffff", *PLAIN],
    "line ends": ["a\r\nbee\u2028\u2029\x0b\x0c\x85", *PLAIN],
    "special tokens": ["[CLS] [SEP] [PAD] [MASK] [UNK]", "<s> </s> <pad> <|endoftext|>", *PLAIN],
    "replacement characters": [b"caf\xe9 \xff\xfe".decode(errors="replace"), *PLAIN],
    "equal documents": ["a bee"] * 50,
}
"""Texts that every backend ranks."""


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_reason(reranker: Reranker, name: str) -> None:
    arguments, message, kind = REFUSED[name]
    with pytest.raises(kind, match=message):
        reranker.rank(**{"query": QUERY, "docs": PLAIN, **arguments})


def check_ranking(ranked: RankedResults, documents: list[str]) -> None:
    assert sorted(result.index for result in ranked if result.index is not None) == list(range(len(documents)))
    assert all(result.text == documents[result.index or 0] for result in ranked)
    assert ranked.scale == "ordinal" or all(result.score is not None for result in ranked)


@pytest.mark.parametrize("name", TAKEN)
def test_taken_as_documents(reranker: Reranker, name: str) -> None:
    check_ranking(reranker.rank(QUERY, TAKEN[name]), TAKEN[name])


@pytest.mark.parametrize("name", TAKEN)
def test_taken_as_a_query(reranker: Reranker, name: str) -> None:
    query = TAKEN[name][0]
    if not query.strip():
        with pytest.raises(InvalidInputError, match="the query is empty"):
            reranker.rank(query, PLAIN)
    else:
        check_ranking(reranker.rank(query, PLAIN), PLAIN)


def test_no_documents(reranker: Reranker) -> None:
    for nothing in ([], (), iter(()), {}.values()):
        assert reranker.rank(QUERY, nothing).results == []


def test_10_000_documents(reranker: Reranker) -> None:
    texts = [f"a{number % 40}" for number in range(10_000)]
    ranked = reranker.rank("a7", texts, top_k=3)
    assert [result.rank for result in ranked] == [1, 2, 3]
    assert len({result.doc_id for result in ranked}) == 3


@pytest.mark.parametrize("name", REFUSED)
def test_async_refuses_the_same(subject_of: Callable[..., Any], name: str) -> None:
    """One backend is enough here: coercion is core's, and the contract tests each backend's async."""
    import asyncio

    arguments, message, kind = REFUSED[name]
    with subject_of("api").build() as reranker, pytest.raises(kind, match=message):
        asyncio.run(reranker.arank(**{"query": QUERY, "docs": PLAIN, **arguments}))


# the command


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["", *PLAIN], "", "the query is empty: give some text"),
        ([" \t", *PLAIN], "", "the query is empty: give some text"),
        ([QUERY, *PLAIN, "--top-k", "0"], "", "top_k must be a whole number of at least 1, not 0: leave it out"),
        ([QUERY, *PLAIN, "--top-k", "-1"], "", "top_k must be a whole number of at least 1, not -1: leave it out"),
        ([QUERY, *PLAIN, "--top-k", "three"], "", "'three' is not a valid integer"),
        ([QUERY, *PLAIN, "--option", "normalise=true"], "", "'normalise' is unknown, did you mean 'normalize'"),
        ([QUERY, "absent.jsonl"], "", "absent.jsonl cannot be read (No such file or directory): name a file"),
        ([QUERY, "."], "", "cannot be read (Is a directory): name a file"),
        ([QUERY], b"caf\xe9", "standard input is not UTF-8 at byte 3, in line 1: convert it first"),
        ([QUERY], '{"text": "a"}\n{"text": \n', "standard input, line 2: this is not JSON"),
        (
            [QUERY],
            '{"text": "a"}\n\n{"text": "\\ud83d"}\n',
            "line 3: the text of the document contains the lone surrogate",
        ),
        ([QUERY], '{"text": "a"}\n[["nested"]]\n', "line 2: the document is of type list: give a str"),
        ([QUERY], '{"text": "a"}\nnull\n', "line 2: the document is None: give a str"),
        ([QUERY], '{"text": "a", "id": 1}\n{"text": "b", "id": 1}\n', "line 2: the id 1 is also that of line 1"),
    ],
)
def test_the_command_refuses_with_code_2(
    subject: Any, run: Callable[..., Any], arguments: list[str], stdin: str | bytes, message: str
) -> None:
    ran = run("rank", *arguments, *subject.arguments, stdin=stdin)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", TAKEN)
def test_the_command_takes(subject: Any, run: Callable[..., Any], name: str) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TAKEN[name])
    ran = run("rank", QUERY, *subject.arguments, "--format", "jsonl", stdin=lines)
    assert (ran.code, ran.err) == (0, "")
    rows = list(map(json.loads, ran.out.removesuffix("\n").split("\n")))
    assert sorted(row["text"] for row in rows) == sorted(TAKEN[name])


@pytest.mark.parametrize("output", ["table", "tsv", "trec", "json"])
def test_the_command_prints_any_text(subject_of: Callable[..., Any], run: Callable[..., Any], output: str) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for texts in TAKEN.values() for text in texts[:3])
    ran = run("rank", QUERY, *subject_of("onnx").arguments, "--format", output, stdin=lines)
    assert (ran.code, ran.err) == (0, "")


def test_the_command_leaves_bad_lines_out_and_counts_them(subject: Any, run: Callable[..., Any]) -> None:
    lines = '{"text": "a bee"}\n{"text": \n\n{"text": null}\n{"text": "\\ud800"}\n"a share"\n'
    ran = run("rank", QUERY, *subject.arguments, "--skip-bad-lines", "-f", "jsonl", stdin=lines)
    assert ran.code == 0
    assert {json.loads(line)["text"] for line in ran.out.splitlines()} == {"a bee", "a share"}
    for number in (2, 4, 5):
        assert f"skipped: standard input, line {number}: " in ran.err
    assert "skipped 3 bad lines, kept 2" in ran.err


def test_the_command_without_documents(subject: Any, run: Callable[..., Any]) -> None:
    ran = run("rank", QUERY, *subject.arguments, "-f", "jsonl", stdin="")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_the_command_with_10_000_lines(subject_of: Callable[..., Any], run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"a{number % 40}\n" for number in range(10_000)), encoding="utf-8")
    for backend in ("onnx", "api"):
        ran = run("rank", "a7", str(path), *subject_of(backend).arguments, "-f", "tsv", "-k", "2")
        assert (ran.code, ran.err) == (0, "")
        assert len(ran.out.splitlines()) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX")
def test_arguments_that_are_no_utf_8(subject_of: Callable[..., Any]) -> None:
    """The shell hands over bytes; those that are not text arrive as lone surrogates."""
    subject = subject_of("onnx")
    for arguments in ([b"caf\xe9", b"a", b"b"], [b"bees", b"caf\xe9", b"b"]):
        done = subprocess.run(
            [os.fsencode(sys.executable), b"-m", b"rerank", b"rank", *arguments, *map(os.fsencode, subject.arguments)],
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2
        assert done.stdout == b""
        assert b"contains the lone surrogate U+DCE9 at position 3: decode its bytes" in done.stderr
        assert b"Traceback" not in done.stderr
