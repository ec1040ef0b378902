"""Files of every kind: read as what they are, or refused by name; never ranked line by line."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
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
    for content in ("1 Q0 d1 1 12.5 bm25\n", "<html>\n", "id,text\n", "[1] a cat\n", "%PDF-1.7 begins a PDF\n"):
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


def test_rows_of_several_layouts_are_counted(rank: Callable[..., Any]) -> None:
    beir, other = {"_id": "2", "title": "panda", "text": "b"}, {"id": "3", "title": "panda", "text": "c"}
    rows = [{"_id": "1", "text": "a"}, beir, other, {"id": "4", "title": None, "text": "d"}]
    found, said = rank("".join(json.dumps(row) + "\n" for row in rows), "a.jsonl")
    assert {text for _, text in found} == {"a", "panda b", "c", "d"}
    assert said == (
        "ranking text of 3, title and text of 1 of the documents, without title of 1: "
        "--text-field title --text-field text ranks both\n"
    )


@pytest.mark.parametrize("title", ["Title", "headline", "HEADLINE"])
def test_a_title_of_another_name_is_reported(rank: Callable[..., Any], title: str) -> None:
    _, said = rank(json.dumps({title: "panda", "text": "a"}) + "\n", "a.jsonl")
    assert (
        said == f"ranking text of each document, without {title}: --text-field {title} --text-field text ranks both\n"
    )


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


def tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("corpus.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


RUN = "1 Q0 d1 1 9.5 bm25\n1 Q0 d2 2 8.5 bm25\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OTHER_KINDS: list[tuple[str, str | bytes]] = [
    *(
        ("UTF-16 without a mark: convert it to UTF-8 text first", text.encode(encoding))
        for text in ("Привет мир\nдва\n", "مرحبا بالعالم\n", "नमस्ते दुनिया\n", "नमस्ते", "熊猫是动物\n巴黎\n", "a cat\n")
        for encoding in ("utf-16-le", "utf-16-be")
    ),
    ("binary, or UTF-16 or UTF-32", "a cat\n".encode("utf-32-le")),
    ("binary", b"\x01\x02\x03\x04\x05\x06\x01\x02\x03"),
    ("a tar archive: unpack it", tar(b"a cat\n" * 400)),
    ("a tar archive: unpack it", packed(tar(b"a cat\n" * 400))),
    ("gzip inside gzip", packed(packed(b"a cat\n"))),
    ("a git-lfs pointer instead of the file: fetch that with git lfs pull", LFS),
    *(("a pickle", pickle.dumps(["a cat", "a dog"], protocol)) for protocol in range(6)),
    ("an image", b"GIF89a\x01\0\x01\0"),
    ("Avro", b"Obj\x01\x04\x14avro.codec"),
    *(
        ("a TREC run, which holds ids and no texts", run)
        for run in (
            RUN.replace("\n", " \n"),
            " " + RUN,
            "qid Q0 docid rank score tag\n" + RUN,
            ("query_id Q0 docid rank score tag\n" + RUN).replace(" ", "\t"),
            "# run\n" + RUN,
            RUN + "broken off\n",
            "1 Q0 d1 1 nan bm25\n1 Q0 d2 2 inf bm25\n",
            RUN.replace("Q0", "q0"),
            RUN.replace("Q0", "0"),
            RUN.replace(" 1 9.5", " 1.0 9.5"),
            RUN.replace(" bm25", ""),
            RUN.replace("bm25", "bm25 k1=0.9"),
            RUN.replace(" ", ","),
            "1\t7187158\t1\t25.1\n1\t7187155\t2\t24.0\n",
        )
    ),
    *(
        ("qrels, or a run of three columns, which holds ids and no texts", qrels)
        for qrels in (
            "1 7187158 1\n1 7187155 2\n",
            "1\td1\t1\n1\td2\t2\n",
            "topic iteration document relevancy\n1 0 d1 1\n1 0 d2 0\n",
            "1 1 d1 1\n1 1 d2 0\n",
            "1 0 d1 1 \n",
            "1\td1\t0.5\n",
            "query-id,corpus-id,score\n1,d1,1\n",
            "query-id corpus-id score\n1 d1 1\n",
        )
    ),
    ("TREC topics, which hold queries", "<top>\n<num> Number: 301\n<title> Crime\n</top>\n"),
    *(
        ("HTML or XML: extract its text", markup)
        for markup in (
            "<add><doc><field name='text'>a cat</field></doc></add>",
            "<rss version='2.0'><channel>\n<title>a cat</title></channel></rss>",
            "<svg xmlns='x'></svg>",
            "<!-- a cat -->\n<html>\na cat</html>",
            "<head><title>a cat</title>\n</head>",
            "<!-- a --><corpus>\n<item>a cat</item></corpus>",
        )
    ),
    ("YAML: give its items as JSON lines", "- id: 1\n  text: a cat\n- id: 2\n  text: a dog\n"),
    ("YAML: give its items as JSON lines", "documents:\n- text: a cat\n- text: a dog\n"),
    ("YAML: give its items as JSON lines", "---\ndocuments:\n  - text: a cat\n"),
    ("a Markdown table", "| id | text |\n|----|------|\n| 1 | a cat |\n"),
]


@pytest.mark.parametrize("name", ["a", "a.txt", ""])
@pytest.mark.parametrize(("kind", "content"), OTHER_KINDS)
def test_more_kinds_are_refused_by_name(rank: Callable[..., Any], kind: str, content: str | bytes, name: str) -> None:
    assert f"is {kind}" in rank(content, name, code=2)


@pytest.mark.parametrize("name", ["a.trec", "a.csv", "a.tsv"])
def test_a_run_is_called_one_whatever_its_suffix(rank: Callable[..., Any], name: str) -> None:
    assert "is a TREC run, which holds ids and no texts" in rank(RUN, name, code=2)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.trec"])
def test_bytes_that_are_no_text_are_refused_in_every_format(rank: Callable[..., Any], name: str) -> None:
    for content in ("熊猫\n巴黎\n".encode("utf-16-le"), b"a cat\0\n"):
        for more in ((), ("--skip-bad-lines",)):
            assert "convert it to UTF-8 text first" in rank(content, name, *more, code=2)
    assert "binary, or UTF-16 or UTF-32 (line 2 has a NUL)" in rank(b"a dog\na cat\0 and\n" * 3, name, code=2)
    assert "is a git-lfs pointer" in rank(LFS, name, code=2)


TABLE = "id,text\nx,a cat\ny,a dog\n"


@pytest.mark.parametrize("name", ["a.txt", ""])
@pytest.mark.parametrize(
    "content",
    [
        TABLE.replace(",", ";"),
        TABLE.replace(",", "|"),
        TABLE.replace(",", "\t"),
        '"id";"text"\n"x";"a cat"\n"y";"a dog"\n',
        TABLE.replace("id,text", "Id,Text"),
        TABLE.replace("id,text", "ID,TEXT").replace(",", "\t"),
        TABLE.replace("id,text", "#id,text").replace(",", "\t"),
        "# corpus\n" + TABLE,
        "# corpus\n" + TABLE.replace(",", "\t"),
        "sep=;\n" + TABLE.replace(",", ";"),
        TABLE.replace(",", ", "),
        "x\ta cat\ny\ta dog\n".replace("x", "d1").replace("y", "d2"),
        "# corpus\nd1\ta cat\nd2\ta dog\n",
        "\tid\ttext\n0\tx\ta cat\n1\ty\ta dog\n",
        "id\ttext\t\nx\ta cat\t\ny\ta dog\t\n",
    ],
)
def test_a_table_is_read_from_a_pipe(rank: Callable[..., Any], content: str, name: str) -> None:
    found, _ = rank(content, name)
    assert [text for _, text in found] == ["a cat", "a dog"]
    assert [doc_id for doc_id, _ in found] in (["x", "y"], ["d1", "d2"])


@pytest.mark.parametrize("content", [TABLE.replace(",", "|"), "sep=;\n" + TABLE.replace(",", ";"), "# a\n" + TABLE])
def test_a_dialect_of_csv_is_read(rank: Callable[..., Any], content: str) -> None:
    assert rank(content, "a.csv")[0] == [("x", "a cat"), ("y", "a dog")]


@pytest.mark.parametrize("header", ["Id\tText", "ID\ttext", "#id\ttext"])
def test_names_of_columns_have_no_case(rank: Callable[..., Any], header: str) -> None:
    assert rank(f"{header}\nx\ta cat\n", "a.tsv")[0] == [("x", "a cat")]
    assert rank(f"{header}\nx\ta cat\n", "", "--input-format", "tsv")[0] == [("x", "a cat")]


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", ""])
@pytest.mark.parametrize("header", ["docno\tpassage_text", "docno\tdocument", "id\tdoc", "qid\tquery"])
def test_a_header_without_a_text_is_refused(rank: Callable[..., Any], header: str, name: str) -> None:
    said = rank(f"{header}\nd1\ta cat\nd2\ta dog\n", name, code=2)
    columns = ", ".join(map(repr, header.split("\t")))
    assert f"is TSV whose columns are {columns}: name that of the documents 'text', name it with --text-field" in said


@pytest.mark.parametrize("name", ["a.txt", "a.csv", ""])
@pytest.mark.parametrize("header", ["doc,abstract", "id,doc", "id;text, long"])
def test_a_header_of_csv_without_a_text_is_refused(rank: Callable[..., Any], header: str, name: str) -> None:
    rows = "1,a cat\n2,a dog\n" if ";" not in header else "1;a cat\n2;a dog\n"
    assert "is CSV whose columns are " in rank(f"{header}\n{rows}", name, code=2)


def test_the_user_names_the_column_of_the_text(rank: Callable[..., Any]) -> None:
    found, said = rank("doc,Abstract\n1,a cat\n", "", "--text-field", "Abstract")
    assert [text for _, text in found] == ["a cat"]
    assert said.startswith("ranking Abstract of each document")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("D1\thttp://x\tCats\ta cat\nD2\thttp://y\tDogs\ta dog\n", "line 1: 4 columns instead of one or two"),
        ("".join(f"D{n}\tu\tcats\t{'a cat ' * 2000}\n" for n in range(3)), "line 1: 4 columns instead of one or two"),
        ("1\ta cat\n2\ta dog\n3", "line 3: 1 columns instead of 2"),
        ("text,label\nA cat, and more,1\nA dog, or less,0\n", "line 2: 3 columns instead of 2"),
        ("text\na cat\na dog\n", "begins with a line 'text': say --input-format csv if it is a header"),
        ("id,text,text\n1,a,b\n", "is CSV with several columns 'text': give each a name of its own"),
        ("id,id,text\n1,2,b\n", "is CSV with several columns 'id'"),
        ("_id,title,title,text\n1,A,B,x\n", "is CSV with several columns 'title'"),
        ("id\tText\ttext\n1\ta\tb\n", "is TSV with several columns 'text'"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", ""])
def test_what_looks_like_a_table_is_refused(rank: Callable[..., Any], content: str, message: str, name: str) -> None:
    assert message in rank(content, name, code=2)


@pytest.mark.parametrize("name", ["a.txt", ""])
@pytest.mark.parametrize(
    "content",
    [
        "text, images\nsound, video\nsmell, taste",
        "body, mind and soul are one\nanother line",
        "Cats, dogs and birds.\nFish, too.",
        "red,green\nblue,pink",
        "3 apples\t2 pears\n4 plums\t1 fig",
        "1 2\n3 4",
        "12 March 2020\n13 March 2021",
        "2 eggs 3\nAdd 1 egg 2",
        "- a cat\n- cats: animals",
        "- a cat: it purrs\n- text that is long",
        '"Yes," he said.\n"No."',
        "[1] a cat\n[link](http://x) to a dog",
        "{cat} is a word",
        "<b>cat</b>",
        "<p>a cat</p>\n<p>a dog</p>",
        "PAR1 is a receptor\nBZh is no word",
        "# Cats\ntext about cats, dogs",
        "#cats are great\na dog",
        "a | b\nc | d",
        "a\fcat",
        "\x1b[31mcat\x1b[0m",
        "a cat\x02 and " + "a dog " * 50,
    ],
)
def test_prose_stays_prose(rank: Callable[..., Any], content: str, name: str) -> None:
    assert rank(content, name)[0] == list(enumerate(content.split("\n")))


def test_a_trec_document_without_an_end(rank: Callable[..., Any]) -> None:
    one, two = "<DOC>\n<DOCNO>x</DOCNO>\n<TEXT>a cat</TEXT>\n", "<DOC><DOCNO>y</DOCNO><TEXT>a dog</TEXT>"
    for end in ("", "</DOC>"):
        assert rank(one + two + end, "a.trec")[0] == [("x", "a cat"), ("y", "a dog")]
    assert "line 4: this <DOC> has no <DOCNO> or no <TEXT>" in rank(one + two.removesuffix("</TEXT>"), "a.trec", code=2)


def test_only_tags_are_markup_in_a_trec_document(rank: Callable[..., Any]) -> None:
    text = "AT&amp;T: if a < b and c > d, or a <b and c> d &lt;x&gt;<!-- no --><P class='x'>a</P><br/> cat"
    found, _ = rank(f"<DOC><DOCNO>x</DOCNO><TEXT lang='en'>{text}</TEXT></DOC>", "a.trec")
    assert found == [("x", "AT&T: if a < b and c > d, or a <b and c> d <x> a cat")]


@pytest.mark.parametrize("name", ["a.trec", "a.txt", ""])
def test_trec_documents_may_begin_in_other_ways(rank: Callable[..., Any], name: str) -> None:
    assert rank("<!-- a corpus -->\n" + TREC, name)[0] == BOTH
    assert rank(TREC.replace("<DOC>", "<DOC type='story'>"), name)[0] == BOTH
    assert rank("<DOC id='x'><TEXT>a cat</TEXT></DOC>", name)[0] == [("x", "a cat")]


def test_a_quote_without_an_end_is_never_skipped(rank: Callable[..., Any]) -> None:
    lines = ["id,text", *(f"{n},a cat" for n in range(50))]
    lines[3] = '2,"a cat'
    for more in ((), ("--skip-bad-lines",)):
        said = rank("\n".join(lines), "a.csv", *more, code=2)
        assert "line 4: this is not CSV: a quote in it has no end, so that all lines below are lost" in said
    lines[6] = '5,"a cat"'
    found, said = rank("\n".join(lines), "a.csv", "--skip-bad-lines")
    assert "line 4: this is not CSV up to line 7" in said
    assert len(found) == 46


PANDAS = 'id\ttext\nx\t"a ""cat"" x"\ny\t"a dog\nand a cat"\n'


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", ""])
def test_tsv_as_pandas_writes_it(rank: Callable[..., Any], name: str) -> None:
    assert rank(PANDAS, name)[0] == [("x", 'a "cat" x'), ("y", "a dog\nand a cat")]
    assert [text for _, text in rank('text\n"a cat\nand"\n"g"\n', name)[0]] == ["a cat\nand", "g"]


@pytest.mark.parametrize("rows", ['x\t"a cat" it is\ny\ta dog\n', 'x\t"a cat\ny\ta dog\n'])
def test_quotes_of_tsv_may_be_letters(rank: Callable[..., Any], rows: str) -> None:
    expected = [tuple(row.split("\t")) for row in rows.splitlines()]
    assert rank("id\ttext\n" + rows, "a.tsv")[0] == expected
    assert rank(rows, "a.tsv")[0] == expected
    assert rank('x\t"a cat"\n', "a.tsv")[0] == [("x", '"a cat"')]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('"a cat"\n{"text": "a dog"}\n', ""),
        ('{"documents": ["a cat", "a dog"]}', ""),
        ('{"documents": ["a cat", "a dog"]}\n', "a.jsonl"),
        ('{"text": "a cat"}\n{"text": "a dog"}\n', "a.json"),
        ('["a cat", "a dog"]\n', "a.jsonl"),
        ('"a cat"\n"a dog"\n', ""),
        ("a cat\ra dog\n", ""),
        ("id,text\r1,a cat\r2,a dog\n", ""),
    ],
)
def test_json_and_lines_of_old_macs_in_other_shapes(rank: Callable[..., Any], content: str, name: str) -> None:
    assert [text for _, text in rank(content, name)[0]] == ["a cat", "a dog"]


def test_json_behind_a_comment_is_not_ranked_by_line(rank: Callable[..., Any]) -> None:
    assert "line 1: this is not JSON" in rank("# corpus\n" + JSONL, "", code=2)


def test_the_commands_json_on_one_line_is_an_input(run: Callable[..., Any], rank: Callable[..., Any]) -> None:
    out = run("rank", "cat", "-m", "good", "-f", "json", stdin=JSONL).out
    assert sorted(rank(json.dumps(json.loads(out)))[0]) == BOTH


def test_the_commands_table_is_refused(run: Callable[..., Any], rank: Callable[..., Any]) -> None:
    out = run("rank", "cat", "-m", "good", stdin=JSONL).out
    assert "is a table that this command wrote, whose texts are cut: write it with --format jsonl" in rank(out, code=2)


@pytest.mark.parametrize("output", ["json", "jsonl"])
@pytest.mark.parametrize(
    "content",
    [
        b"id,text,url\nx,a cat,u\ny,a dog,\xe9\n",
        b"id\ttext\turl\nx\ta cat\tu\ny\ta dog\t\xe9\n",
        b'{"id": "x", "text": "a cat"}\n{"id": "y", "text": "a dog", "url": "\xe9"}\n',
        b'{"id": "x", "text": "a cat"}\n{"id": "y", "text": "a dog", "url": "\\ud800"}\n',
        b'[{"id": "x", "text": "a cat"}, {"id": "y", "text": "a dog", "meta": {"k": ["\xe9"]}}]',
    ],
)
def test_a_bad_byte_beside_the_text_makes_a_bad_line(run: Callable[..., Any], content: bytes, output: str) -> None:
    ran = run("rank", "cat", "-m", "good", "-f", output, "--skip-bad-lines", stdin=content)
    assert ran.code == 0, ran.err
    assert "a dog" not in ran.out
    assert "skipped 1 bad lines, kept 1" in ran.err


def test_a_header_that_is_no_utf_8_is_refused(rank: Callable[..., Any]) -> None:
    for name in ("a.csv", ""):
        content = b"id,text,\xe9\n1,a cat,u\n"
        assert "is CSV whose header is not UTF-8" in rank(content, name, "--skip-bad-lines", code=2)


def test_what_follows_gzip_is_refused(rank: Callable[..., Any]) -> None:
    one = packed(JSONL.encode())
    assert "has 7 bytes behind its gzip that are no gzip: fetch it again" in rank(one + b"garbage", "a.gz", code=2)
    assert "has 1 bytes behind its gzip" in rank(one + one[:1], "a.gz", code=2)
    assert "is gzip that breaks off" in rank(one + one[:-4], "a.gz", code=2)
    assert rank(one + bytes(512), "a.gz")[0] == BOTH


def test_gzip_unpacks_to_a_hundred_times_its_size(rank: Callable[..., Any]) -> None:
    bomb = packed(b"a\n" * 20_000_000)
    limit = kinds.MAX_RATIO * len(bomb) >> 20
    assert 1 < limit < 5
    assert f"unpacks to more than {limit} MB" in rank(bomb, "a.gz", code=2)


def test_memory_that_is_too_small_is_an_error(rank: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def read_rows(*arguments: Any, **more: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("rerank.cli.inputs.read_rows", read_rows)
    assert "does not fit into memory: give it in parts" in rank("a cat\n", "a.txt", code=2)
