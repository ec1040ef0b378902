"""Documents of a command from a file, a pipe or the command line; bad lines are reported by number."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from rerank.cli.formats import FORMATS, SUFFIXES, read_rows
from rerank.cli.tables import Row
from rerank.display import visible
from rerank.documents import DocumentLike, as_document, as_fields, chosen_fields, has_id
from rerank.errors import InvalidInputError

_TITLES: Final = frozenset(("title", "headline"))
"""What fields with a document's title are called, in lower case."""

F = TypeVar("F", bound=Callable[..., Any])


def input_options(command: F) -> F:
    """Give a command the options of its input.

    It receives ``input_format``, ``skip_bad_lines`` and ``text_fields``, for `read_inputs`.
    """
    command = click.option(
        "--text-field",
        "text_fields",
        multiple=True,
        metavar="NAME",
        help="A field of each document to rank, such as title; may be repeated, and the fields are joined in this order.",
    )(command)
    command = click.option("--skip-bad-lines", is_flag=True, help="Skip bad lines and report them.")(command)
    return click.option(
        "--input-format",
        type=click.Choice(FORMATS),
        help="The input's format; by default its suffix or its beginning decides.",
    )(command)


def read_inputs(
    sources: Sequence[str], input_format: str | None, skip_bad_lines: bool, text_fields: Sequence[str] = ()
) -> list[DocumentLike]:
    """Read a command's documents, and report on standard error which fields are ranked and which lines were skipped.

    Args:
        sources: Nothing or ``-`` for standard input, one file, or the texts themselves.
        input_format: One of `rerank.cli.formats.FORMATS`; None decides by the file's suffix, else by its beginning.
        skip_bad_lines: Whether bad lines are skipped; otherwise the first one is an error.
        text_fields: The fields of each document that make its text; empty takes the usual ones.

    Raises:
        InvalidInputError: The file is missing, not UTF-8 or of a kind without documents, or a line is bad.
    """
    bad_lines: list[str] = []
    documents = read_documents(
        sources,
        input_format,
        bad_lines.append if skip_bad_lines else None,
        text_fields=text_fields,
        on_fields=lambda message: click.echo(visible(message), err=True),
    )
    for problem in bad_lines:
        click.echo(f"skipped: {visible(problem)}", err=True)
    if bad_lines:
        click.echo(f"skipped {len(bad_lines)} bad lines, kept {len(documents)}", err=True)
    return documents


def read_documents(
    sources: Sequence[str],
    given_format: str | None,
    on_bad_line: Callable[[str], None] | None,
    *,
    text_fields: Sequence[str] = (),
    on_fields: Callable[[str], None] = lambda message: None,
) -> list[DocumentLike]:
    """Read documents.

    Args:
        sources: Nothing or ``-`` for standard input, one file, or the texts themselves.
        given_format: One of `rerank.cli.formats.FORMATS`; None decides by the file's suffix, else by its beginning.
        on_bad_line: Called with a report of each bad line, which is then skipped; None makes the first one an error.
        text_fields: The fields of each document that make its text; empty takes the usual ones.
        on_fields: Called once with what is ranked, if that is not the field ``text`` alone.

    Raises:
        InvalidInputError: The file is missing, not UTF-8 or of a kind without documents, or a line is bad.
    """
    text_fields = as_fields(tuple(text_fields))

    def parse(content: bytes, suffix: str, where: str) -> list[DocumentLike]:
        skips_lines = on_bad_line is not None
        try:
            unit, read = read_rows(
                content, given_format, suffix, where, skips_lines=skips_lines, text_fields=text_fields
            )
            rows = list(read)
            documents = _kept(rows, where, unit, text_fields, on_bad_line)
        except MemoryError as error:
            raise InvalidInputError(f"{where} does not fit into memory: give it in parts") from error
        if documents and (message := _ranked_fields(rows, text_fields)):
            on_fields(message)
        return documents

    if not sources or list(sources) == ["-"]:
        if sys.stdin is None:
            raise InvalidInputError("standard input is closed: name a file, or give several texts")
        if sys.stdin.isatty():
            click.echo("reading documents from standard input, one per line; Ctrl-D ends the input", err=True)
        return parse(sys.stdin.buffer.read(), "", "standard input")
    if len(sources) > 1:
        if files := [source for source in sources if _is_input(source)]:
            kind = "folder" if Path(files[0]).is_dir() else "file"
            raise InvalidInputError(
                f"{files[0]} is a {kind} among {len(sources)} arguments, or the name of one: give one file; several files, "
                "or such texts, one per line, go through standard input"
            )
        return list(sources)
    path = Path(sources[0])
    if " " in sources[0] and _suffix(path) not in SUFFIXES and not _is_there(path):
        return list(sources)  # a sentence; a single word, or the name of a missing data file, is more likely a typo
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(
            f"{path} cannot be read ({reason}): name a file, '-' for standard input, or give several texts"
        ) from error
    return parse(content, _suffix(path), str(path))


def _is_input(source: str) -> bool:
    """Whether one of several arguments is no text: a path, ``-``, or a word that ends like the name of a data file."""
    path = Path(source)
    is_name = not re.search(r"\s", source) and _suffix(path) in SUFFIXES
    return source == "-" or is_name or (bool(source) and _is_there(path))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, or a null character in it
        return False


def _suffix(path: Path) -> str:
    """A file's suffix in lower case, without that of gzip."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


_SURROGATE = re.compile("[\ud800-\udfff]")


def _kept(
    rows: Iterable[Row],
    where: str,
    unit: str,
    text_fields: Sequence[str],
    on_bad_line: Callable[[str], None] | None,
) -> list[DocumentLike]:
    """The documents of rows, each with a text and, if its row has them, an id and metadata."""
    documents: list[DocumentLike] = []
    lines: dict[str | int, int] = {}
    for number, row in rows:
        try:
            if isinstance(row, InvalidInputError):
                raise row
            document = as_document(row, where="the document", text_fields=text_fields)
            if _SURROGATE.search(json.dumps(document.metadata, ensure_ascii=False)):
                raise InvalidInputError("its metadata are not UTF-8: convert them first")
            earlier = lines.setdefault(document.doc_id, number) if has_id(row) else number
            if earlier != number:
                raise InvalidInputError(
                    f"the id {document.doc_id!r} is also that of {unit} {earlier}; give each its own"
                )
        except InvalidInputError as error:
            problem = f"{where}, {unit} {number}: {error}"
            if on_bad_line is None:
                raise InvalidInputError(f"{problem} (--skip-bad-lines skips such lines)") from error
            on_bad_line(problem)
        else:
            own_id = {"id": document.doc_id} if has_id(row) else {}
            documents.append({**own_id, "text": document.text, "metadata": document.metadata})
    return documents


def _ranked_fields(rows: Sequence[Row], text_fields: Sequence[str]) -> str | None:
    """What to say of the fields that are ranked; None if it is what everybody expects."""
    fields: Counter[str] = Counter()
    titles: Counter[str] = Counter()
    for _, row in rows:
        if isinstance(row, Mapping) and (read := text_fields or chosen_fields(row)):
            fields[" and ".join(read)] += 1
            titles.update(key for key in row if key not in read and key.casefold() in _TITLES and row[key])
    left_out = None if text_fields else next(iter(titles), None)
    if left_out is None and not fields.keys() - {"text"}:
        return None
    if len(fields) == 1:
        what = f"ranking {next(iter(fields))} of each document"
    else:
        what = f"ranking {', '.join(f'{names} of {count}' for names, count in fields.items())} of the documents"
    if left_out is None:
        return f"{what}: --text-field names others"
    of = "" if titles[left_out] == sum(fields.values()) else f" of {titles[left_out]}"
    both = f"--text-field {left_out} --text-field {next(iter(fields)).rpartition(' ')[2]}"
    return f"{what}, without {left_out}{of}: {both} ranks both"
