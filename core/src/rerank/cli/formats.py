"""The bytes of an input as rows: which kind of file they are, and how each kind is read or refused."""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from rerank.documents import TEXT_KEYS
from rerank.errors import InvalidInputError

FORMATS: Final = ("text", "jsonl", "json", "csv", "tsv", "trec")
"""The formats that are read: lines of text, JSON by line or as a whole, tables with a header, and TREC's documents."""

SUFFIXES: Final = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".trec": "trec",
}

MAX_UNPACKED_BYTES: Final = 1 << 30
"""The most that a gzip file may unpack to: a few kilobytes can hold many gigabytes."""

Row: TypeAlias = tuple[int, Any]
"""A line number from 1, and the line's content, or an `InvalidInputError` that says what is wrong with it."""

_MAGIC: Final = {
    b"PAR1": "Parquet: read it with pandas, and give the rows as JSON lines",
    b"ARROW1": "Arrow: read it with pyarrow, and give the rows as JSON lines",
    b"PK\x03\x04": "a zip archive, or an Office document: unpack it, or save it as CSV or text",
    b"%PDF": "PDF: extract its text",
    b"SQLite format 3": "an SQLite database: give its rows as CSV or JSON lines",
    b"\x93NUMPY": "a numpy array: give its rows as JSON lines",
    b"\x80\x02": "a pickle: give its rows as JSON lines",
    b"\x80\x03": "a pickle: give its rows as JSON lines",
    b"\x80\x04": "a pickle: give its rows as JSON lines",
    b"\x80\x05": "a pickle: give its rows as JSON lines",
    b"\x89PNG": "an image: give text",
    b"\xff\xd8\xff": "an image: give text",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"\xd0\xcf\x11\xe0": "an Office document: save it as CSV or text",
    b"\xff\xfe\x00\x00": "UTF-32: convert it to UTF-8 first",
    b"\x00\x00\xfe\xff": "UTF-32: convert it to UTF-8 first",
    b"\xff\xfe": "UTF-16: convert it to UTF-8 first",
    b"\xfe\xff": "UTF-16: convert it to UTF-8 first",
}
_GZIP: Final = b"\x1f\x8b"
_SAMPLE: Final = 4096
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


def read_rows(content: bytes, given_format: str | None, suffix: str, where: str, *, skips_lines: bool) -> Iterator[Row]:
    """Read an input.

    Args:
        content: Its bytes; gzip is unpacked.
        given_format: One of `FORMATS`; None decides by the suffix, else by the content.
        suffix: Its file's suffix, without that of gzip; empty if there is none.
        where: What errors call it.
        skips_lines: Whether a line that is no UTF-8 is a bad line; otherwise the whole input is refused.

    Yields:
        Its rows.

    Raises:
        InvalidInputError: It is of a kind that holds no documents, or that is not read.
    """
    text = _decode(_unpack(content, where), where, by_line=skips_lines)
    if given_format == "text":
        return _lines(text)  # of any kind, as the user says
    named = given_format or SUFFIXES.get(suffix)
    kind = named if named not in (None, "text") else _guess(text, is_text=named is not None)
    return _READERS[kind](text, where)


def _unpack(content: bytes, where: str) -> bytes:
    if not content.startswith(_GZIP):
        return content
    unpacked, rest = b"", content
    try:
        while rest.startswith(_GZIP):  # a file may hold several streams, one after another
            stream = zlib.decompressobj(wbits=31)
            unpacked += stream.decompress(rest, MAX_UNPACKED_BYTES + 1 - len(unpacked))
            if len(unpacked) > MAX_UNPACKED_BYTES:
                raise InvalidInputError(
                    f"{where} unpacks to more than {MAX_UNPACKED_BYTES >> 20} MB: unpack it, and give it in parts"
                )
            if not stream.eof:
                raise InvalidInputError(f"{where} is gzip that breaks off: fetch it again")
            rest = stream.unused_data
    except zlib.error as error:
        raise InvalidInputError(f"{where} is damaged gzip ({error}): fetch it again") from error
    return unpacked


def _decode(content: bytes, where: str, *, by_line: bool) -> str:
    for magic, kind in _MAGIC.items():
        if content.startswith(magic):
            raise InvalidInputError(f"{where} is {kind}")
    sample = content[:_SAMPLE]
    if sample.count(0) * 4 > len(sample):
        raise InvalidInputError(f"{where} is UTF-16 or no text (every few bytes are 0): convert it to UTF-8 first")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not by_line:
            raise InvalidInputError(
                f"{where} is not UTF-8 at byte {error.start}, in line {content.count(10, 0, error.start) + 1}: convert it "
                "first (--skip-bad-lines skips such lines)"
            ) from error
        text = content.decode("utf-8-sig", errors="surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")


def _guess(text: str, *, is_text: bool) -> str:
    """The format of an input by its beginning; one that calls itself text may begin with a bracket."""
    start = text.lstrip()[:_SAMPLE]
    if start[:1] in ("[", "{") and (not is_text or _is_json(text) or _is_json(_first_line(text))):
        return "json" if start[0] == "[" else "jsonl"
    if start.startswith(("<DOC>", "<doc>")):
        return "trec"
    first = _first_line(start)
    for kind, separator in (("tsv", "\t"), ("csv", ",")):
        if separator in first and _text_column(_cells(first, separator)) is not None:
            return kind
    return "text"


def _first_line(text: str) -> str:
    """The first line that is not blank; empty if there is none."""
    found = re.match(r"\s*(.*)", text)
    return found[1] if found else ""


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(separator)]


def _text_column(cells: Sequence[str]) -> str | None:
    """The cell of a header that names the documents' text."""
    return next((cell for cell in cells if cell in TEXT_KEYS), None)


_RUN: Final = re.compile(r"\S+[ \t]+Q0[ \t]+\S+[ \t]+-?\d+[ \t]+[-+.\deE]+[ \t]+\S+")
_QRELS: Final = re.compile(r"\S+[ \t]+(0|Q0)[ \t]+\S+[ \t]+-?\d+|query-id\tcorpus-id\tscore|\S+\t\S+\t-?\d+")
_MARKUP: Final = re.compile(r"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)


def _check_kind(text: str, where: str) -> None:
    """Refuse what is read by line and holds no texts.

    Raises:
        InvalidInputError: It is a TREC run, qrels, or a page of HTML or XML.
    """
    if _MARKUP.match(text):
        raise InvalidInputError(f"{where} is HTML or XML: extract its text, and give it with --input-format text")
    start = [line.rstrip("\r") for line in text[:_SAMPLE].split("\n")]
    lines = [line for line in (start[:-1] if len(text) > _SAMPLE else start) if line.strip()]
    for name, pattern in (("a TREC run", _RUN), ("qrels", _QRELS)):
        if lines and all(pattern.fullmatch(line) for line in lines):
            raise InvalidInputError(
                f"{where} is {name}, which holds ids and no texts: give the documents themselves, such as corpus.jsonl"
            )


def _lines(text: str) -> Iterator[tuple[int, str | InvalidInputError]]:
    """Lines that are not blank, or what is wrong with them."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            bad = _UNDECODED.search(line)
            yield number, InvalidInputError("it is not UTF-8: convert it first") if bad else line.removesuffix("\r")


def _read_text(text: str, where: str) -> Iterator[Row]:
    _check_kind(text, where)
    yield from _lines(text)


def _read_jsonl(text: str, where: str) -> Iterator[Row]:
    lines = list(_lines(text))
    if len(lines) > 1 and isinstance(lines[0][1], str) and not _is_json(lines[0][1]) and _is_json(text):
        yield from _read_json(text, where)  # one value over several lines
        return
    for number, line in lines:
        try:
            yield number, line if isinstance(line, InvalidInputError) else json.loads(line)
        except (ValueError, RecursionError) as error:
            yield (
                number,
                InvalidInputError(
                    f"this is not JSON: {error}; give one value per line, or read plain text with --input-format text"
                ),
            )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_LISTS: Final = ("documents", "results", "docs", "passages", "data")
"""Where an object keeps its documents; ``results`` is that of this command's own JSON."""


def _read_json(text: str, where: str) -> Iterator[Row]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{where} is not JSON: {error}; for one value per line use --input-format jsonl, for plain lines text"
        ) from error
    if isinstance(value, Mapping):
        value = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), value)
    if not isinstance(value, list):
        raise InvalidInputError(f"{where} is not a JSON array: put the documents in [ ], or in an object's 'documents'")
    yield from enumerate(value, start=1)


def _read_csv(text: str, where: str) -> Iterator[Row]:
    """Rows below a header, which may be quoted and span several lines."""
    csv.field_size_limit(MAX_UNPACKED_BYTES)  # a long of C, which sys.maxsize does not fit everywhere
    separator = max(",;", key=_first_line(text).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, InvalidInputError(f"this is not CSV: {error}; fix the quotes")
            return
        if not any(cell.strip() for cell in row):
            continue
        if header is None:
            header = _checked_header([cell.strip() for cell in row], where, "CSV")
        elif len(row) == len(header):
            yield number, dict(zip(header, row))
        else:
            yield number, InvalidInputError(f"{len(row)} columns instead of {len(header)}; fix the line")


_COLUMNS: Final = frozenset(
    [
        "id",
        "_id",
        "doc_id",
        "docid",
        "did",
        "pid",
        "qid",
        "query_id",
        "query-id",
        "corpus-id",
        "title",
        "query",
        "score",
        "rank",
        "url",
        "label",
        "meta",
        "metadata",
    ]
)
"""Names by which a first line without a text column is known as a header."""


def _checked_header(cells: list[str], where: str, kind: str) -> list[str]:
    if _text_column(cells) is None:
        raise InvalidInputError(
            f"{where} is {kind} whose columns are {', '.join(map(repr, cells))}: name that of the documents 'text', or "
            "read plain lines with --input-format text"
        )
    return cells


def _read_tsv(text: str, where: str) -> Iterator[Row]:
    """Rows of ``text``, of ``id`` and ``text``, or of the columns that a header names, also behind comments."""
    _check_kind(text, where)
    lines = list(_lines(text))
    header: list[str] | None = None
    for place, (_, line) in enumerate(lines):
        if isinstance(line, str) and not line.startswith("#"):
            cells = _cells(line, "\t")
            if len(cells) > 1 and (_text_column(cells) is not None or _COLUMNS.issuperset(cells)):
                header, lines = _checked_header(cells, where, "TSV"), lines[place + 1 :]
            elif cells == ["text"]:
                header, lines = cells, lines[place + 1 :]
            break
    width = len(header) if header is not None else None
    for number, line in lines:
        if isinstance(line, InvalidInputError):
            yield number, line
            continue
        row = line.split("\t")
        width = width or len(row)
        if len(row) != width or (header is None and width > 2):
            expected = width if width <= 2 or header is not None else "one or two"
            yield number, InvalidInputError(f"{len(row)} columns instead of {expected}; fix the line")
        elif header is not None:
            yield number, dict(zip(header, row))
        else:
            yield number, row[0] if width == 1 else {"id": row[0], "text": row[1]}


_DOCUMENT: Final = re.compile(r"<DOC>(.*?)</DOC>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<[^>]*>")


def _read_trec(text: str, where: str) -> Iterator[Row]:
    """``<DOC>`` elements with ``<DOCNO>``, a title if there is one, and ``<TEXT>``."""
    found, number, counted = None, 1, 0
    for found in _DOCUMENT.finditer(text):
        content = found.group(1)
        number += text.count("\n", counted, found.start())
        counted = found.start()
        names = _elements(content, "DOCNO")
        title = " ".join(_elements(content, "TITLE") or _elements(content, "HEADLINE"))
        body = " ".join(_elements(content, "TEXT"))
        if not names or not body:
            yield number, InvalidInputError("this <DOC> has no <DOCNO> or no <TEXT>: add it")
        else:
            yield number, {"_id": names[0], "title": title, "text": body} if title else {"id": names[0], "text": body}
    if found is None and text.strip():
        raise InvalidInputError(f"{where} has no <DOC> elements: give TREC documents, or another --input-format")


def _elements(content: str, name: str) -> list[str]:
    found = re.findall(rf"<{name}>(.*?)</{name}>", content, re.IGNORECASE | re.DOTALL)
    return [" ".join(_TAG.sub(" ", element).split()) for element in found]


_READERS: Final[Mapping[str, Callable[[str, str], Iterator[Row]]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "trec": _read_trec,
}
