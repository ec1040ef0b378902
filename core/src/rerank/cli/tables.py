"""Tables: CSV and TSV, with a header that names the column of the documents' text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from rerank.cli.kinds import MAX_UNPACKED_BYTES, SAMPLE, UNDECODED, beginning, most
from rerank.documents import TEXT_KEYS
from rerank.errors import InvalidInputError

Row: TypeAlias = tuple[int, Any]
"""A line number from 1, and the line's content, or an `InvalidInputError` that says what is wrong with it."""

_IDS: Final = frozenset(
    [
        "id",
        "_id",
        "doc_id",
        "docid",
        "docno",
        "doc",
        "did",
        "pid",
        "passage_id",
        "document_id",
        "qid",
        "query_id",
        "query-id",
        "corpus_id",
        "corpus-id",
    ]
)
_OTHERS: Final = frozenset(
    ["title", "query", "score", "rank", "url", "label", "meta", "metadata", "document", "passage_text", "abstract"]
)
_NAME: Final = re.compile("(?![\\d .,])[\\w .,()/\udc80-\udcff-]{0,40}")
_ID: Final = re.compile(r"[^\s\d]*\d\S*")
_SEPARATORS: Final = ("\t", ";", ",", "|")
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)", re.IGNORECASE)
"""What Excel writes before a header."""


def lines_of(text: str) -> Iterator[tuple[int, str | InvalidInputError]]:
    """Lines that are not blank, or what is wrong with them."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            bad = UNDECODED.search(line)
            yield number, InvalidInputError("it is not UTF-8: convert it first") if bad else line.removesuffix("\r")


@dataclass(frozen=True)
class Header:
    """The first line of a table.

    Attributes:
        names: Those of its columns; those that are known are in lower case.
        separator: What stands between them.
        end: Where the rows begin in the text.
        lines: How many lines come before.
        is_spaced: Whether a blank follows each separator.
    """

    names: tuple[str, ...]
    separator: str
    end: int
    lines: int
    is_spaced: bool

    def text_name(self, text_names: Sequence[str]) -> str | None:
        """The first column that is a text."""
        return next((name for name in self.names if name in text_names), None)

    @property
    def has_id(self) -> bool:
        """Whether a column is known as an id."""
        return any(name.lower() in _IDS for name in self.names)

    @property
    def is_known(self) -> bool:
        """Whether all columns are known."""
        return all(name.lower() in {*_IDS, *_OTHERS, *TEXT_KEYS} for name in self.names)


def find_table(text: str, text_fields: Sequence[str]) -> str | None:
    """The format of a text that is surely a table, though nothing says so; None if it may be prose.

    A header of names with one of a text or an id makes it one if most lines have as many cells, or if all its names are
    known. Prose has blanks behind its commas, so names with a blank before them must all be known, and one of them an id's.
    Rows of TSV that all begin with ids of their own need no header.

    Args:
        text: The text.
        text_fields: The columns that the user names.
    """
    header = _find_header(text, None, text_fields)
    if header is not None and len(header.names) > 1:
        is_named = header.text_name(_text_names(text_fields)) is not None
        if is_named or header.has_id:
            rows = _first_rows(text[header.end :], header.separator)
            is_even = most([len(row) == len(header.names) for row in rows])
            is_sure = header.has_id and header.is_known if header.is_spaced or not rows else is_even
            is_plain = bool(rows) and not header.is_spaced
            if is_sure or (is_named and header.is_known and (header.has_id or is_plain)):
                return "tsv" if header.separator == "\t" else "csv"
    lines = [line for line in beginning(text) if not line.startswith("#")]
    if lines and lines[0] in ("text", '"text"') and any(line.startswith('"') for line in lines[1:]):
        return "csv"
    rows_of_ids = [line.split("\t") for line in lines]
    ids = [row[0] for row in rows_of_ids if len(row) > 1 and _ID.fullmatch(row[0])]
    whole = len(lines) - 1 if len(lines) > 2 else len(lines)  # the last line may be broken off
    return "tsv" if len(ids) > 1 and len(set(ids)) == len(ids) >= whole else None


def check_first_line(text: str, where: str) -> None:
    """Refuse lines of which the first may be the header of their only column.

    Raises:
        InvalidInputError: It is ``text``.
    """
    lines = [line for line in beginning(text) if not line.startswith("#")]
    if len(lines) > 1 and lines[0] in ("text", '"text"'):
        raise InvalidInputError(
            f"{where} begins with a line 'text': say --input-format csv if it is a header, or text if it is a document"
        )


def _text_names(text_fields: Sequence[str]) -> Sequence[str]:
    return (*text_fields, *TEXT_KEYS)


def _first_rows(text: str, separator: str) -> list[list[str]]:
    """The cells of the first lines that are not blank; one in quotes may span several lines, except in TSV."""
    lines = beginning(text)
    if separator == "\t":
        return [line.split(separator) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # a carriage return inside
        return line.split(separator)


def _find_header(text: str, separators: Sequence[str] | None, text_fields: Sequence[str]) -> Header | None:
    """The header of a table, also behind blank lines, comments and Excel's ``sep=``; None if no line looks like one."""
    place, count = 0, 0
    for line in text[:SAMPLE].split("\n"):
        place, count = place + len(line) + 1, count + 1
        stripped = line.strip(" \r\ufeff")
        if excel := _SEPARATOR_LINE.fullmatch(stripped):
            separators = [excel[1]]
        elif stripped.strip(' ,;|\t"'):
            header = _as_header(stripped, separators or _SEPARATORS, place, count, text_fields)
            if header is not None or not stripped.startswith("#"):
                return header
    return None


def _as_header(line: str, separators: Sequence[str], end: int, lines: int, text_fields: Sequence[str]) -> Header | None:
    """A line as a header, between the separators by which it names a text, or the first that make it one of names."""
    known = {*_IDS, *_OTHERS, *TEXT_KEYS, *map(str.lower, text_fields)}
    headers = []
    for separator in separators:
        bare = line.lstrip("#").strip(" ") if separator in line else line
        cells = [cell.strip() for cell in _cells(bare, separator)]
        lowered = {cell.lower() for cell in cells}
        has_both = bool(lowered & _IDS and lowered & set(TEXT_KEYS))
        named = [cell for cell in cells if cell]  # pandas leaves the name of an index out
        if len(cells) > 1 and named and (has_both or all(map(_NAME.fullmatch, named))):
            names = (cell.lower() if cell.lower() in known and cell not in text_fields else cell for cell in cells)
            headers.append(Header(tuple(names), separator, end, lines, is_spaced=f"{separator} " in line))
    return next((header for header in headers if header.text_name(_text_names(text_fields))), next(iter(headers), None))


def _checked(header: Header, where: str, kind: str, text_fields: Sequence[str]) -> Header:
    """The header, whose names differ and of which one is a text's.

    Raises:
        InvalidInputError: They do not, none is, or they are no UTF-8.
    """
    names = ", ".join(map(repr, header.names))
    if UNDECODED.search("".join(header.names)):
        raise InvalidInputError(f"{where} is {kind} whose header is not UTF-8: convert it first")
    if twice := [name for name in header.names if name and header.names.count(name) > 1]:
        raise InvalidInputError(f"{where} is {kind} with several columns {twice[0]!r}: give each a name of its own")
    if header.text_name(_text_names(text_fields)) is None:
        raise InvalidInputError(
            f"{where} is {kind} whose columns are {names}: name that of the documents 'text', name it with --text-field, "
            "or read plain lines with --input-format text"
        )
    return header


def read_csv(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    """Rows below a header, which may be quoted and span several lines.

    Raises:
        InvalidInputError: No column is a text, two have one name, or a quote has no end.
    """
    if not text.strip():
        return
    header = _find_header(text, None, text_fields)
    if header is None:
        lines = text.split("\n")
        count, first = next((n, line.strip()) for n, line in enumerate(lines, start=1) if line.strip())
        separator = max(_SEPARATORS, key=first.count)
        cells = [cell.strip() for cell in _cells(first, separator)]
        end = sum(len(line) + 1 for line in lines[:count])
        header = Header(tuple(cells), separator, end, count, is_spaced=False)
    _checked(header, where, "CSV", text_fields)
    yield from _quoted_rows(text, where, header)


def _quoted_rows(text: str, where: str, header: Header) -> Iterator[Row]:
    csv.field_size_limit(MAX_UNPACKED_BYTES)  # a long of C, which sys.maxsize does not fit everywhere
    reader = csv.reader(
        io.StringIO(text[header.end :], newline=""),
        delimiter=header.separator,
        skipinitialspace=header.is_spaced,
        strict=True,
    )
    while True:
        number = header.lines + reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InvalidInputError(
                    f"{where}, line {number}: this is not CSV: a quote in it has no end, so that all lines below are lost; "
                    "fix the quotes"
                ) from error
            last = header.lines + reader.line_num
            span = f" up to line {last}" if last > number else ""
            yield number, InvalidInputError(f"this is not CSV{span}: {error}; fix the quotes")
            continue
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header.names):
            yield number, InvalidInputError(f"{len(row)} columns instead of {len(header.names)}; fix the line")
        elif any(map(UNDECODED.search, row)):
            yield number, InvalidInputError("it is not UTF-8: convert it first")
        else:
            yield number, dict(zip(header.names, row))


def read_tsv(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    """Rows of ``text``, of ``id`` and ``text``, or of the columns that a header names.

    Quotes are part of a text, as in the collections of MS MARCO, unless a header stands above and all rows read as quoted
    cells, as pandas writes them.

    Raises:
        InvalidInputError: No column is a text, or two have one name.
    """
    header = _find_header(text, ["\t"], text_fields)
    names = _text_names(text_fields)
    if header is not None and (header.text_name(names) or header.has_id or header.is_known):
        _checked(header, where, "TSV", text_fields)
    else:
        lines = text.split("\n")
        first = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
        is_one = first < len(lines) and lines[first].strip() in ("text", '"text"')
        end = sum(len(line) + 1 for line in lines[: first + 1])
        header = Header(("text",), "\t", end, first + 1, is_spaced=False) if is_one else None
    if header is not None and re.search(r'[\t\n]"', text[header.end - 1 :]):
        try:
            quoted = list(_quoted_rows(text, where, header))
        except InvalidInputError:
            quoted = []
        if quoted and all(isinstance(row, dict) for _, row in quoted):
            yield from quoted
            return
    yield from _plain_rows(text, header)


def _plain_rows(text: str, header: Header | None) -> Iterator[Row]:
    """Rows whose quotes are letters like others."""
    width = len(header.names) if header is not None else None
    is_tabbed = "\t" in text
    for number, line in lines_of(text):
        if header is not None and number <= header.lines:
            continue
        if isinstance(line, InvalidInputError):
            yield number, line
            continue
        row = line.split("\t")
        if width is None and is_tabbed and len(row) == 1 and line.startswith("#"):
            continue  # a comment
        width = width or len(row)
        if len(row) != width or (header is None and width > 2):  # an id and a text
            expected = width if width <= 2 or header is not None else "one or two, or a header that names one 'text'"
            yield number, InvalidInputError(f"{len(row)} columns instead of {expected}; fix the line")
        elif header is not None:
            yield number, dict(zip(header.names, row))
        else:
            yield number, row[0] if width == 1 else {"id": row[0], "text": row[1]}
