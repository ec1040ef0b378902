"""``rerank rank`` reads text lines, JSON lines, a JSON array or TSV, from a file, a pipe or the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import Site

CONTENT = {
    "text": "a cat\n\n  \na dog and a cat\r\nça 日本\n",
    "jsonl": '{"id": 7, "text": "a cat", "url": "u"}\n\n{"text": "a dog and a cat", "meta": {"k": [1]}}\n"ça 日本"\n',
    "json": '[{"id": 7, "text": "a cat"}, "a dog and a cat",\n {"_id": "z", "text": "ça 日本"}]',
    "tsv": "x1\ta cat\ny2\ta dog and a cat\n\nz3\tça 日本\n",
}
TEXTS = ["a cat", "a dog and a cat", "ça 日本"]
SUFFIXES = {"text": ".txt", "jsonl": ".jsonl", "json": ".json", "tsv": ".tsv"}


@pytest.fixture(autouse=True)
def _good(site: Site) -> None:
    site.install("fake_good")


@pytest.fixture
def rank(run: Callable[..., Any]) -> Callable[..., Any]:
    """``rerank rank cat … --model good --format json``, with the answer read."""

    def rank_here(*arguments: str, code: int = 0, **more: Any) -> Any:
        ran = run("rank", "cat", *arguments, "--model", "good", "--format", "json", **more)
        assert ran.code == code, ran.err
        if code:
            assert ran.out == ""
            assert ran.err.startswith("rerank: ")
            return ran.err
        return {row["index"]: row for row in json.loads(ran.out)["results"]}

    return rank_here


@pytest.mark.parametrize("kind", CONTENT)
def test_a_file_by_its_suffix(rank: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"docs{SUFFIXES[kind].upper()}"
    path.write_bytes(CONTENT[kind].encode())
    rows = rank(str(path))
    assert [rows[i]["text"] for i in range(3)] == TEXTS


@pytest.mark.parametrize("kind", CONTENT)
@pytest.mark.parametrize("source", [(), ("-",)])
def test_a_pipe_with_the_format_named(rank: Callable[..., Any], kind: str, source: tuple[str, ...]) -> None:
    rows = rank(*source, "--input-format", kind, stdin=CONTENT[kind])
    assert [rows[i]["text"] for i in range(3)] == TEXTS


@pytest.mark.parametrize("kind", ["text", "jsonl", "json"])
def test_a_pipe_by_its_first_character(rank: Callable[..., Any], kind: str) -> None:
    rows = rank(stdin="\ufeff" + (" \n" if kind != "jsonl" else "") + CONTENT[kind])
    assert [rows[i]["text"] for i in range(3)] == TEXTS


def test_ids_and_metadata_come_along(rank: Callable[..., Any]) -> None:
    rows = rank(stdin=CONTENT["jsonl"])
    assert (rows[0]["doc_id"], rows[0]["metadata"]) == (7, {"url": "u"})
    assert (rows[1]["doc_id"], rows[1]["metadata"]) == (1, {"k": [1]})


def test_tsv_with_a_header(rank: Callable[..., Any]) -> None:
    rows = rank("--input-format", "tsv", stdin='id\tlang\ttext\nx\ten\ta "cat\ny\tde\teine Katze\n')
    assert [(row["doc_id"], row["text"], row["metadata"]) for row in (rows[0], rows[1])] == [
        ("x", 'a "cat', {"lang": "en"}),
        ("y", "eine Katze", {"lang": "de"}),
    ]


def test_tsv_of_texts_alone(rank: Callable[..., Any]) -> None:
    rows = rank("--input-format", "tsv", stdin="a cat\na dog\n")
    assert [(row["doc_id"], row["text"]) for row in (rows[0], rows[1])] == [(0, "a cat"), (1, "a dog")]


def test_a_very_long_line_of_tsv(rank: Callable[..., Any]) -> None:
    rows = rank("--input-format", "tsv", stdin="x\t" + "a cat " * 40_000 + "\ny\ta dog\n")
    assert len(rows[0]["text"]) > 200_000


def test_a_carriage_return_inside_a_line_of_tsv(rank: Callable[..., Any]) -> None:
    rows = rank("--input-format", "tsv", stdin="x\ta cat\rstill the cat\r\ny\ta dog\r\n")
    assert [row["doc_id"] for row in rows.values()] == ["x", "y"]


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x85", "\x1e"])
@pytest.mark.parametrize("kind", ["text", "jsonl", "tsv"])
def test_only_a_newline_ends_a_line(rank: Callable[..., Any], separator: str, kind: str) -> None:
    text = f"a cat{separator}and a dog"
    line = {
        "text": text,
        "jsonl": json.dumps({"text": text}, ensure_ascii=False).replace(r"\f", "\f"),
        "tsv": f"x\t{text}",
    }
    if kind == "jsonl" and ord(separator) < 32:
        pytest.skip("JSON escapes control characters")
    rows = rank("--input-format", kind, stdin=line[kind] + "\n")
    assert [row["text"] for row in rows.values()] == [text]


def test_texts_on_the_command_line(rank: Callable[..., Any]) -> None:
    assert [row["text"] for row in rank("a dog", "a cat").values()] == ["a cat", "a dog"]
    assert rank("only one cat here")[0]["text"] == "only one cat here"
    assert rank("one cat. It sits on v1.2 of the mat")[0]["score"] == 1.0
    assert rank("a cat " * 200)[0]["score"] == 1.0


def test_an_empty_input_is_an_empty_ranking(rank: Callable[..., Any], tmp_path: Path) -> None:
    assert rank(stdin="") == {}
    assert rank(stdin=" \n\n") == {}
    assert rank(stdin="[]") == {}
    (tmp_path / "none.jsonl").touch()
    assert rank(str(tmp_path / "none.jsonl")) == {}


@pytest.mark.parametrize("name", ["absent.jsonl", "absent"])
def test_a_missing_file(rank: Callable[..., Any], tmp_path: Path, name: str) -> None:
    expected = rank(str(tmp_path / name), code=2)
    assert "cannot be read (No such file or directory): name a file, '-' for standard input" in expected


def test_a_folder_is_no_file(rank: Callable[..., Any], tmp_path: Path) -> None:
    assert "cannot be read (Is a directory)" in rank(str(tmp_path), code=2)


def test_what_is_not_utf_8(rank: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("a cat\ncafé\n".encode("latin-1"))
    assert "latin.txt is not UTF-8 at byte 9, in line 2: convert it first" in rank(str(tmp_path / "latin.txt"), code=2)
    assert "standard input is not UTF-8 at byte 0" in rank(stdin=b"\xffa", code=2)


BAD_LINES = [
    ("jsonl", '{"text": "a cat"}\n{"text": \n{"text": "b"}\n', "line 2: this is not JSON"),
    ("jsonl", '\n\n{"text": "a cat"}\n{"cover": "x"}\n', "line 4: the document has no 'text' among its keys ['cover']"),
    ("jsonl", '{"text": "a cat"}\n3\n', "line 2: the document is of type int"),
    ("jsonl", '{"text": "a cat"}\n{"text": null}\n', "line 2: the text of the document is None"),
    (
        "jsonl",
        '{"text": "a cat"}\n{"text": "\\ud800"}\n',
        "line 2: the text of the document contains the lone surrogate",
    ),
    ("jsonl", '{"text": "a cat"}\n{"text": "b", "id": 1.5}\n', "line 2: the id of the document is of type float"),
    ("jsonl", '{"text": "a cat"}\n' + "[" * 100_000 + "\n", "line 2"),
    ("tsv", "x\ta cat\ny\tb\tc\n", "line 2: 3 columns instead of 2"),
    ("tsv", "id\ttext\nx\ta cat\ny\n", "line 3: 1 columns instead of 2"),
    ("json", '["a cat",\n\n 3]', "item 2: the document is of type int"),
    ("jsonl", '["a cat",\n\n 3]', "item 2: the document is of type int"),
    ("json", '[{"id": 1, "text": "a cat"}, {"id": 1, "text": "b"}]', "item 2: the id 1 is also that of item 1"),
]


@pytest.mark.parametrize(("kind", "content", "expected"), BAD_LINES)
def test_a_bad_line_is_named_by_its_number(rank: Callable[..., Any], kind: str, content: str, expected: str) -> None:
    message = rank("--input-format", kind, stdin=content, code=2)
    assert f"standard input, {expected}" in message
    assert "--skip-bad-lines skips such lines" in message


@pytest.mark.parametrize(("kind", "content", "expected"), BAD_LINES)
def test_bad_lines_can_be_left_out(run: Callable[..., Any], kind: str, content: str, expected: str) -> None:
    ran = run("rank", "cat", "--input-format", kind, "--skip-bad-lines", "-m", "good", "-f", "jsonl", stdin=content)
    assert ran.code == 0
    assert json.loads(ran.out.splitlines()[0])["text"] == "a cat"
    assert f"skipped: standard input, {expected}" in ran.err
    assert "skipped 1 bad lines, kept" in ran.err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not JSON: "),
        ('{"text": "a"}', "is not a JSON array: put the documents in [ ]"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_that_is_not_a_json_array(rank: Callable[..., Any], content: str, expected: str) -> None:
    assert expected in rank("--input-format", "json", stdin=content, code=2)


def test_equal_ids_are_reported(rank: Callable[..., Any]) -> None:
    expected = rank("--input-format", "tsv", stdin="x\ta\nx\tb\n", code=2)
    assert "line 2: the id 'x' is also that of line 1" in expected
    assert rank("--input-format", "tsv", "--skip-bad-lines", stdin="x\ta\nx\tb\n", code=0)


def test_several_files_are_not_taken_for_texts(tmp_path: Path, rank: Callable[..., Any]) -> None:
    (tmp_path / "a.md").write_text("a")
    assert "is a file among 2 arguments" in rank(str(tmp_path / "a.md"), "text", code=2)


@pytest.mark.parametrize("kind", ["fifos", "folders", "stdin", "missing", "missing gzip", "stdin and a text"])
def test_several_arguments_that_are_no_texts(tmp_path: Path, rank: Callable[..., Any], kind: str) -> None:
    paths = [str(tmp_path / "one"), str(tmp_path / "two")]
    if kind == "fifos" and not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    if kind == "fifos":
        for path in paths:
            os.mkfifo(path)
    elif kind == "folders":
        for path in paths:
            Path(path).mkdir()
    else:
        paths = {
            "stdin": ["-", "-"],
            "missing": ["corpus1.jsonl", "corpus2.jsonl"],
            "missing gzip": ["corpus1.CSV.gz", "corpus2.CSV.gz"],
            "stdin and a text": ["a cat", "-"],
        }[kind]
    said = rank(*paths, code=2)
    noun = "folder" if kind == "folders" else "file"
    assert f"is a {noun} among 2 arguments, or the name of one: give one file; several files," in said


def test_a_text_may_speak_of_files(rank: Callable[..., Any]) -> None:
    assert len(rank("cat corpus.jsonl", "dog", "Node.js", "v1.2", "")) == 5
