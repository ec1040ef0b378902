"""Documents of a command from a file, a pipe or the command line; bad lines are reported by number."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from rerank.documents import DocumentLike, as_document, has_id
from rerank.errors import InvalidInputError

FORMATS: Final = ("text", "jsonl", "json", "tsv")
_SUFFIXES: Final = {".txt": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".tsv": "tsv"}

F = TypeVar("F", bound=Callable[..., Any])
Row = tuple[int, DocumentLike]
"""A line number from 1, and the line's content."""


def input_options(command: F) -> F:
    """Give a command the options of its input; it receives ``input_format`` and ``skip_bad_lines``, for `read_inputs`."""
    command = click.option("--skip-bad-lines", is_flag=True, help="Skip bad lines and report them.")(command)
    return click.option(
        "--input-format",
        type=click.Choice(FORMATS),
        help="The input's format; by default its suffix or first character decides.",
    )(command)


def read_inputs(sources: Sequence[str], input_format: str | None, skip_bad_lines: bool) -> list[DocumentLike]:
    """Read a command's documents, and report on standard error which bad lines were skipped.

    Args:
        sources: Nothing or ``-`` for standard input, one file, or the texts themselves.
        input_format: One of `FORMATS`; None decides by the file's suffix, else by the first character.
        skip_bad_lines: Whether bad lines are skipped; otherwise the first one is an error.

    Raises:
        InvalidInputError: The file is missing or not UTF-8, or a line is bad.
    """
    bad_lines: list[str] = []
    documents = read_documents(sources, input_format, bad_lines.append if skip_bad_lines else None)
    for problem in bad_lines:
        click.echo(f"skipped: {problem}", err=True)
    if bad_lines:
        click.echo(f"skipped {len(bad_lines)} bad lines, kept {len(documents)}", err=True)
    return documents


def read_documents(
    sources: Sequence[str], given_format: str | None, on_bad_line: Callable[[str], None] | None
) -> list[DocumentLike]:
    """Read documents.

    Args:
        sources: Nothing or ``-`` for standard input, one file, or the texts themselves.
        given_format: One of `FORMATS`; None decides by the file's suffix, else by the first character.
        on_bad_line: Called with a report of each bad line, which is then skipped; None makes the first one an error.

    Raises:
        InvalidInputError: The file is missing or not UTF-8, or a line is bad.
    """
    if not sources or list(sources) == ["-"]:
        if sys.stdin is None:
            raise InvalidInputError("standard input is closed: name a file, or give several texts")
        if sys.stdin.isatty():
            click.echo("reading documents from standard input, one per line; Ctrl-D ends the input", err=True)
        return _parse(_decode(sys.stdin.buffer.read(), "standard input"), given_format, "standard input", on_bad_line)
    if len(sources) > 1:
        if files := [source for source in sources if _is_there(Path(source)) and Path(source).is_file()]:
            raise InvalidInputError(f"{files[0]} is a file among {len(sources)} arguments: give one file, or pipe them")
        return list(sources)
    path = Path(sources[0])
    if " " in sources[0] and path.suffix.lower() not in _SUFFIXES and not _is_there(path):
        return list(sources)  # a sentence; a single word, or the name of a missing data file, is more likely a typo
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"{path} cannot be read ({reason}): name a file, '-' for standard input, or give several texts"
        ) from error
    return _parse(
        _decode(content, str(path)), given_format or _SUFFIXES.get(path.suffix.lower()), str(path), on_bad_line
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or a null character in it
        return False


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{where} is not UTF-8 at byte {error.start}: convert it first") from error


def _parse(
    content: str, given_format: str | None, where: str, on_bad_line: Callable[[str], None] | None
) -> list[DocumentLike]:
    first = content.lstrip()[:1]
    kind = given_format or {"[": "json", "{": "jsonl"}.get(first, "text")
    read = {"text": _read_text, "jsonl": _read_jsonl, "json": _read_json, "tsv": _read_tsv}[kind]
    documents: list[DocumentLike] = []
    lines: dict[str | int, int] = {}
    for number, row in read(content, where):
        try:
            if isinstance(row, InvalidInputError):
                raise row
            document = as_document(row, where="the document")
            earlier = lines.setdefault(document.doc_id, number) if has_id(row) else number
            if earlier != number:
                raise InvalidInputError(f"the id {document.doc_id!r} is also that of line {earlier}; give each its own")
        except InvalidInputError as error:
            problem = f"{where}, line {number}: {error}"
            if on_bad_line is None:
                raise InvalidInputError(f"{problem} (--skip-bad-lines skips such lines)") from error
            on_bad_line(problem)
        else:
            documents.append(row)
    return documents


def _read_text(content: str, where: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def _read_jsonl(content: str, where: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield (
                number,
                InvalidInputError(
                    f"this is not JSON: {error}; fix the line, or read the lines as plain text with --input-format text"
                ),
            )


def _read_json(content: str, where: str) -> Iterator[tuple[int, Any]]:
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"{where} is not JSON: {error}; for one value per line use --input-format jsonl, for plain lines text"
        ) from error
    if not isinstance(rows, list):
        raise InvalidInputError(f"{where} is not a JSON array: put the documents in [ ]")
    yield from enumerate(rows, start=1)


def _read_tsv(content: str, where: str) -> Iterator[tuple[int, Any]]:
    """Rows of ``text``, of ``id`` and ``text``, or of the columns that a header with ``text`` names."""
    header: list[str] | None = None
    for number, line in enumerate(content.split("\n"), start=1):
        row = line.removesuffix("\r").split("\t")
        if number == 1 and "text" in row:
            header = row
        elif not any(cell.strip() for cell in row):
            continue
        elif header is not None and len(row) == len(header):
            yield number, dict(zip(header, row))
        elif header is None and len(row) <= 2:
            yield number, row[0] if len(row) == 1 else {"id": row[0], "text": row[1]}
        else:
            columns = len(header) if header is not None else "one or two"
            yield number, InvalidInputError(f"{len(row)} columns instead of {columns}; fix the line")
