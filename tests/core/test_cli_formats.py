"""Files of every kind: read as what they are, or refused by name; never ranked line by line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

from rerank.cli import kinds


def packed(content: bytes) -> bytes:
    """Gzip without the time, so that every process collects the same tests."""
    return gzip.compress(content, mtime=0)


ROWS = [{"id": "x", "text": "a cat"}, {"id": "y", "text": "a dog, and a cat"}]
CSV = 'id,text\nx,a cat\ny,"a dog, and a cat"\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)
TREC = "<DOC>\n<DOCNO> x </DOCNO>\n<TEXT>\na cat\n</TEXT>\n</DOC>\n<DOC>\n<DOCNO>y</DOCNO>\n<TEXT>a dog, and\n<b>a</b> cat</TEXT></DOC>"
BEIR = '{"_id": "x", "title": "a cat", "text": "purrs"}\n{"_id": "y", "title": "a dog", "text": "barks"}\n'


@pytest.fixture(autouse=True)
def _good(site: Site) -> None:
    site.install("fake_good")


@pytest.fixture
def rank(run: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Ranks a file of the given content, and returns ids and texts in their order, and what was said."""

    def rank_here(content: bytes | str, name: str = "", *arguments: str, code: int = 0) -> Any:
        given = content.encode() if isinstance(content, str) else content
        if name:
            (tmp_path / name).write_bytes(given)
            ran = run("rank", "cat", str(tmp_path / name), "-m", "good", "-f", "json", *arguments)
        else:
            ran = run("rank", "cat", "-m", "good", "-f", "json", *arguments, stdin=given)
        assert ran.code == code, ran.err
        if code:
            assert ran.out == ""
            return ran.err
        found = sorted(json.loads(ran.out)["results"], key=lambda row: row["index"])
        return [(row["doc_id"], row["text"]) for row in found], ran.err

    return rank_here


BOTH = [("x", "a cat"), ("y", "a dog, and a cat")]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (CSV, "a.csv"),
        (CSV.replace(",", ";").replace("dog;", "dog,"), "semicolons.csv"),
        ("\n" + CSV, "blank.csv"),
        ("\n\n" + CSV.replace(",", ";").replace("dog;", "dog,"), "blank-semicolons.csv"),
        (CSV, "a.txt"),
        (CSV, ""),
        (CSV.replace("text", "passage"), "a.csv"),
        (CSV.replace("\n", "\r\n"), "a.csv"),
        ("id\ttext\nx\ta cat\ny\ta dog, and a cat\n", "a.tsv"),
        ("id\ttext\nx\ta cat\ny\ta dog, and a cat\n", "a.txt"),
        ("id\ttext\nx\ta cat\ny\ta dog, and a cat\n", ""),
        ("pid\tpassage\nx\ta cat\ny\ta dog, and a cat\n".replace("pid", "id"), "a.tsv"),
        ("# a comment\n\nid\ttext\nx\ta cat\ny\ta dog, and a cat\n", "a.tsv"),
        ("x\ta cat\ny\ta dog, and a cat\n", "a.tsv"),
        (JSONL, "a.jsonl"),
        (JSONL, "a.txt"),
        (JSONL.replace("\n", "\r"), "mac.jsonl"),
        (json.dumps(ROWS, indent=1), "a.json"),
        (json.dumps(ROWS, indent=1), "a.jsonl"),
        (json.dumps({"documents": ROWS}, indent=1), "a.json"),
        (json.dumps({"documents": ROWS}, indent=1), ""),
        (TREC, "a.trec"),
        (TREC, "a.txt"),
        (packed(CSV.encode()), "a.csv.gz"),
        (packed(JSONL.encode()), "a.jsonl.gz"),
        (packed(JSONL.encode()[:30]) + packed(JSONL.encode()[30:]), "a.gz"),
        (packed(JSONL.encode()), ""),
    ],
)
def test_a_file_is_read_as_what_it_is(rank: Callable[..., Any], content: bytes | str, name: str) -> None:
    found, said = rank(content, name)
    assert found == BOTH
    assert said == "" or said.startswith("ranking passage of each document")


def test_a_cell_of_csv_may_have_several_lines_and_be_long(rank: Callable[..., Any]) -> None:
    text = "a cat\nand " + "a dog " * 60_000
    found, _ = rank(f'text,id\n"{text}",x\n', "a.csv")
    assert found == [("x", text)]


REFUSED = {
    "a TREC run": b"1 Q0 d1 1 12.5 bm25\n1 Q0 d2 2 -3e-2 bm25\n",
    "qrels": b"1 0 d1 2\n1 0 d2 0\n",
    "qrels,": b"query-id\tcorpus-id\tscore\n1\td1\t1\n",
    "HTML or XML": b"<!DOCTYPE html>\n<html><body>a cat</body></html>",
    "Parquet": b"PAR1\x15\x04",
    "Arrow": b"ARROW1\0\0",
    "a zip archive, or an Office document": b"PK\x03\x04\x14\0",
    "PDF": b"%PDF-1.7\n",
    "an SQLite database": b"SQLite format 3\0",
    "a numpy array": b"\x93NUMPY\x01\0",
    "a pickle": b"\x80\x04\x95\n",
    "an image": b"\x89PNG\r\n",
    "compressed with xz": b"\xfd7zXZ\0\0",
    "UTF-16": "a cat\nç\n".encode("utf-16"),
    "UTF-16 without a mark": "a cat\na dog\n".encode("utf-16-le"),
    "UTF-32": "a cat\n".encode("utf-32"),
    "gzip that breaks off": packed(b"a cat\n" * 100)[:-12],
    "damaged gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\xff" * 20,
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a", ""])
def test_a_file_of_another_kind_is_refused_by_name(rank: Callable[..., Any], kind: str, name: str) -> None:
    said = rank(REFUSED[kind], name, code=2)
    assert f"is {kind.rstrip(',')}" in said
    assert said.startswith("rerank: ")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (
            "pid\ttitle\n1\tcats\n",
            "a.tsv",
            "is TSV whose columns are 'pid', 'title': name that of the documents 'text'",
        ),
        ("name,year\nx,2024\n", "a.csv", "is CSV whose columns are 'name', 'year': name that of the documents 'text'"),
        ('id,text\nx,"a cat\n', "a.csv", "line 2: this is not CSV"),
        ("id,text\nx,a cat,more\n", "a.csv", "line 2: 3 columns instead of 2"),
        ("x\ta cat\nbroken off\n", "a.tsv", "line 2: 1 columns instead of 2"),
        ('{"text": "a"},\n{"text": "b"},\n', "a.jsonl", "line 1: this is not JSON"),
        ('{"text": "a"}{"text": "b"}\n', "a.jsonl", "line 1: this is not JSON"),
        ('{"a": "cat"}', "a.json", "is not a JSON array: put the documents in [ ], or in an object's 'documents'"),
        ("<DOC><TEXT>a cat</TEXT></DOC>", "a.trec", "line 1: this <DOC> has no <DOCNO> or no <TEXT>"),
        ("a cat\n", "a.trec", "has no <DOC> elements"),
    ],
)
def test_what_is_wrong_with_a_file(rank: Callable[..., Any], content: str, name: str, message: str) -> None:
    assert message in rank(content, name, code=2)


def test_plain_text_may_look_like_anything_if_the_user_says_so(rank: Callable[..., Any]) -> None:
    for content in ("1 Q0 d1 1 12.5 bm25\n", "<html>\n", "id,text\n", "[1] a cat\n"):
        assert rank(content, "a.txt", "--input-format", "text")[0] == [(0, content.strip())]
    assert rank("[1] a cat\n[2] a dog\n", "a.txt")[0] == [(0, "[1] a cat"), (1, "[2] a dog")]


def test_gzip_is_unpacked_only_so_far(rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "MAX_UNPACKED_BYTES", 1 << 20)
    bomb = packed(b" " * (1 << 24))
    assert "unpacks to more than 1 MB: unpack it, and give it in parts" in rank(bomb, "a.gz", code=2)
    many = packed(b" " * (1 << 19)) * 3
    assert "unpacks to more than 1 MB" in rank(many, "a.gz", code=2)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.tsv"])
def test_a_line_that_is_no_utf_8_can_be_skipped(rank: Callable[..., Any], name: str) -> None:
    lines = {"a.txt": "{}", "a.jsonl": '{{"text": "{}"}}', "a.tsv": "{}"}[name]
    content = "\n".join(lines.format(text) for text in ("a cat", "café", "ça")).encode("latin-1").splitlines()
    content[2] = lines.format("ça").encode()
    found, said = rank(b"\n".join(content), name, "--skip-bad-lines")
    assert [text for _, text in found] == ["a cat", "ça"]
    assert "line 2: it is not UTF-8: convert it first" in said
    assert "in line 2: convert it first (--skip-bad-lines" in rank(b"\n".join(content), name, code=2)


@pytest.mark.parametrize("output", ["json", "jsonl", "tsv"])
def test_the_commands_own_output_is_an_input(run: Callable[..., Any], rank: Callable[..., Any], output: str) -> None:
    out = run("rank", "cat", "-m", "good", "-f", output, stdin=JSONL).out
    assert sorted(rank(out)[0]) == BOTH


def test_its_own_runs_are_refused(run: Callable[..., Any], rank: Callable[..., Any]) -> None:
    out = run("rank", "cat", "-m", "good", "-f", "trec", stdin=JSONL).out
    assert "is a TREC run, which holds ids and no texts" in rank(out, code=2)


def test_beirs_layout_is_ranked_on_title_and_text(rank: Callable[..., Any]) -> None:
    found, said = rank(BEIR, "corpus.jsonl")
    assert found == [("x", "a cat purrs"), ("y", "a dog barks")]
    assert said == "ranking title and text of each document: --text-field names others\n"
    found, said = rank(BEIR, "corpus.jsonl", "--text-field", "text")
    assert (found, said) == ([("x", "purrs"), ("y", "barks")], "")
    assert rank(BEIR, "corpus.jsonl", "--text-field", "text", "--text-field", "title")[0][0] == ("x", "purrs a cat")


def test_a_field_that_cannot_be_ranked_is_named(rank: Callable[..., Any]) -> None:
    assert "name each field once" in rank(BEIR, "a.jsonl", "--text-field", "title", "--text-field", "title", code=2)
    assert "no 'abstract' among its keys" in rank(BEIR, "a.jsonl", "--text-field", "abstract", code=2)
    assert "no fields to choose from" in rank("a cat\na dog\n", "a.txt", "--text-field", "title", code=2)


def test_a_title_that_is_left_out_is_reported(rank: Callable[..., Any]) -> None:
    found, said = rank(BEIR.replace("_id", "id"), "a.jsonl")
    assert found == [("x", "purrs"), ("y", "barks")]
    assert said == "ranking text of each document, without title: --text-field title --text-field text ranks both\n"


def test_a_trec_document_with_a_title_is_ranked_on_both(rank: Callable[..., Any]) -> None:
    found, _ = rank("<doc><docno>x</docno><title>A cat</title><text>It purrs.</text></doc>", "a.trec")
    assert found == [("x", "A cat It purrs.")]


@pytest.mark.parametrize("output", ["trec", "tsv"])
@pytest.mark.parametrize(("one", "two"), [(1, "1"), ("a b", "a_b"), ("", " "), ("a\tb", "a b")])
def test_no_id_is_written_twice(run: Callable[..., Any], one: Any, two: Any, output: str) -> None:
    rows = "\n".join(json.dumps({"id": own, "text": "a cat"}) for own in (one, two))
    ran = run("rank", "cat", "-m", "good", "-f", output, stdin=rows)
    assert (ran.code, ran.out) == (2, "")
    assert f"the ids {one!r} and {two!r} would both be written as" in ran.err
