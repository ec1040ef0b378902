"""The bytes of an input as rows: which format they are in, and how each is read."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rerank.cli.kinds import SAMPLE, UNDECODED, check_kind, decode, unpack
from rerank.cli.tables import Row, check_first_line, find_table, lines_of, read_csv, read_tsv
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


def read_rows(
    content: bytes,
    given_format: str | None,
    suffix: str,
    where: str,
    *,
    skips_lines: bool,
    text_fields: Sequence[str] = (),
) -> tuple[str, Iterator[Row]]:
    """Read an input.

    Args:
        content: Its bytes; gzip is unpacked.
        given_format: One of `FORMATS`; None decides by the suffix, else by the content.
        suffix: Its file's suffix, without that of gzip; empty if there is none.
        where: What errors call it.
        skips_lines: Whether a line that is no UTF-8 is a bad line; otherwise the whole input is refused.
        text_fields: The columns of a table that the user names as its text.

    Returns:
        What its rows are counted in, ``line`` or ``item``, and the rows.

    Raises:
        InvalidInputError: It is of a kind that holds no documents, or that is not read.
    """
    is_text = given_format == "text"
    text = decode(unpack(content, where), where, by_line=skips_lines, of_any_kind=is_text)
    if is_text:
        return "line", lines_of(text)
    named = given_format or SUFFIXES.get(suffix)
    kind = named if named not in (None, "text") else _guess(text, text_fields)
    if kind in ("json", "jsonl"):
        kind = _kind_of_json(kind, text, text_fields)
    return "item" if kind == "json" else "line", _READERS[kind](text, where, text_fields)


def _guess(text: str, text_fields: Sequence[str]) -> str:
    """The format of an input by its beginning; prose may begin with a bracket."""
    start = _COMMENT_LINES.sub("", text[:SAMPLE], count=1).lstrip()
    if start[:1] in ("[", "{") and (_BROKEN_JSON.match(start) or _is_json(text) or _is_json(_first_line(text))):
        return "json" if start[0] == "[" else "jsonl"
    if start[:1] == '"' and _is_lines_of_json(text):
        return "jsonl"
    if _DOCUMENT_FIRST.match(start):
        return "trec"
    return find_table(text, text_fields) or "text"


_COMMENT_LINES: Final = re.compile(r"(\s*(#|//)[^\n]*\n)+")
_BROKEN_JSON: Final = re.compile(r'[\[{]\s*(["{\[\]}]|$|\n)')
_DOCUMENT_FIRST: Final = re.compile(r"(<!--.*?-->\s*)*<DOC[\s>]", re.IGNORECASE | re.DOTALL)


def _first_line(text: str) -> str:
    """The first line that is not blank, without blanks around it; empty if there is none."""
    found = re.match(r"\s*(.*)", text)
    return found[1].rstrip() if found else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_lines_of_json(text: str) -> bool:
    """Whether each line is a string or an object of JSON."""
    lines = [line for _, line in lines_of(text) if isinstance(line, str)]
    return all(line.lstrip()[:1] in ('"', "{") and _is_json(line) for line in lines)


def _read_text(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    check_kind(text, where)
    check_first_line(text, where)
    yield from lines_of(text)


_LISTS: Final = ("documents", "results", "docs", "passages", "data")
"""Where an object keeps its documents; ``results`` is that of this command's own JSON."""


def _listed(value: Any, text_fields: Sequence[str]) -> list[Any] | None:
    """The documents of an array, or of an object that is none itself."""
    if isinstance(value, Mapping) and not any(key in value for key in (*TEXT_KEYS, *text_fields)):
        value = next((value[key] for key in _LISTS if isinstance(value.get(key), list)), None)
    return value if isinstance(value, list) else None


def _kind_of_json(kind: str, text: str, text_fields: Sequence[str]) -> str:
    """``json`` for JSON lines that are one value over several lines, or one list; ``jsonl`` for JSON that is lines."""
    first = _first_line(text)
    is_one = len(first) == len(text.strip())
    if kind == "json":
        return "jsonl" if first[:1] == "{" and not is_one and _is_json(first) and not _is_json(text) else kind
    if is_one:
        return "json" if _is_json(text) and _listed(json.loads(text), text_fields) is not None else kind
    return "json" if not _is_json(first) and _is_json(text) else kind


def _read_jsonl(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    for number, line in lines_of(text):
        try:
            yield number, line if isinstance(line, InvalidInputError) else json.loads(line)
        except (ValueError, RecursionError) as error:
            yield (
                number,
                InvalidInputError(
                    f"this is not JSON: {error}; give one value per line, as jq -c writes it, or read plain text with "
                    "--input-format text"
                ),
            )


def _read_json(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{where} is not JSON: {error}; for one value per line use --input-format jsonl, for plain lines text"
        ) from error
    listed = _listed(value, text_fields)
    if listed is None:
        raise InvalidInputError(f"{where} is not a JSON array: put the documents in [ ], or in an object's 'documents'")
    yield from enumerate(listed, start=1)


def _read_csv(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    check_kind(text, where)
    yield from read_csv(text, where, text_fields)


def _read_tsv(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    check_kind(text, where)
    yield from read_tsv(text, where, text_fields)


_DOCUMENT: Final = re.compile(r"<DOC(\s[^<>]*)?>", re.IGNORECASE)
_DOCUMENT_END: Final = re.compile(r"</DOC>.*", re.IGNORECASE | re.DOTALL)
_OWN_ID: Final = re.compile(r"""\b(?:doc)?id\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_TAG: Final = re.compile(r"<!--.*?-->|</?[A-Za-z][\w:-]*(\s+[\w:-]+\s*=[^<>]*)?\s*/?>", re.DOTALL)
"""A comment, or a tag with or without attributes; ``a <b and c> d`` is text."""


def _read_trec(text: str, where: str, text_fields: Sequence[str]) -> Iterator[Row]:
    """``<DOC>`` elements, whose end may be missing, with ``<DOCNO>``, a title if there is one, and ``<TEXT>``."""
    starts = list(_DOCUMENT.finditer(text))
    number, counted = 1, 0
    for place, start in enumerate(starts):
        number += text.count("\n", counted, start.start())
        counted = start.start()
        end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        content = _DOCUMENT_END.sub("", text[start.end() : end])
        names = _elements(content, "DOCNO") or _OWN_ID.findall(start[1] or "")
        title = " ".join(_elements(content, "TITLE") or _elements(content, "HEADLINE"))
        body = " ".join(_elements(content, "TEXT"))
        if UNDECODED.search(content):
            yield number, InvalidInputError("it is not UTF-8: convert it first")
        elif not names or not body:
            yield number, InvalidInputError("this <DOC> has no <DOCNO> or no <TEXT>: add it")
        else:
            yield number, {"_id": names[0], "title": title, "text": body} if title else {"id": names[0], "text": body}
    if not starts and text.strip():
        check_kind(text, where)
        raise InvalidInputError(f"{where} has no <DOC> elements: give TREC documents, or another --input-format")


def _elements(content: str, name: str) -> list[str]:
    found = re.findall(rf"<{name}(?:\s[^<>]*)?>(.*?)</{name}>", content, re.IGNORECASE | re.DOTALL)
    return [" ".join(html.unescape(_TAG.sub(" ", element)).split()) for element in found]


_READERS: Final[Mapping[str, Callable[[str, str, Sequence[str]], Iterator[Row]]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "trec": _read_trec,
}
