"""``rerank rank QUERY [FILE|-|TEXTS…]``: documents in, a ranking out, in the format that suits the next tool."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any, Final

import click

from rerank.cli.inputs import input_options, read_inputs
from rerank.cli.source import backend_options, read_options, source_options
from rerank.display import escaped
from rerank.errors import InvalidInputError
from rerank.reranker import Reranker
from rerank.results import RankedResults, Result


def as_table(ranked: RankedResults, query_id: str) -> str:
    """A table as wide as the terminal."""
    return ranked.table(shutil.get_terminal_size((100, 24)).columns)


def as_json(ranked: RankedResults, query_id: str) -> str:
    """The whole ranking, for ``RankedResults.model_validate_json``."""
    return escaped(ranked.model_dump_json(indent=2))


def as_jsonl(ranked: RankedResults, query_id: str) -> str:
    """One result per line."""
    return escaped("\n".join(result.model_dump_json() for result in ranked))


def as_tsv(ranked: RankedResults, query_id: str) -> str:
    """Rank, score, id and text; white space inside a text becomes one space."""
    lines = ["rank\tscore\tid\ttext"]
    for r, doc_id in zip(ranked, _words(ranked)):
        score = "" if r.score is None else repr(r.score)
        lines.append(f"{r.rank}\t{score}\t{doc_id}\t{' '.join(r.text.split())}")
    return "\n".join(lines)


def as_trec(ranked: RankedResults, query_id: str) -> str:
    """A TREC run; if a document has no score, every score is 1 / rank, which keeps the order."""
    scored = all(result.score is not None for result in ranked)

    def line(r: Result, doc_id: str) -> str:
        score = r.score if scored else 1 / r.rank
        return f"{_word(query_id)} Q0 {doc_id} {r.rank} {score!r} {_word(ranked.model)}"

    return "\n".join(map(line, ranked, _words(ranked)))


def _words(ranked: RankedResults) -> list[str]:
    """The documents' ids, each as one column.

    Raises:
        InvalidInputError: Two would be the same.
    """
    words: dict[str, str | int] = {}
    for r in ranked:
        other = words.setdefault(_word(r.doc_id), r.doc_id)
        if other is not r.doc_id:
            raise InvalidInputError(
                f"the ids {other!r} and {r.doc_id!r} would both be written as {_word(r.doc_id)!r}: give ids that differ "
                "without white space and types, or write them with --format jsonl"
            )
    return list(words)


def _word(value: str | int) -> str:
    """A value as one column: white space would start the next."""
    return "_".join(str(value).split()) or "_"


OUTPUTS: Final[dict[str, Callable[[RankedResults, str], str]]] = {
    "table": as_table,
    "json": as_json,
    "jsonl": as_jsonl,
    "tsv": as_tsv,
    "trec": as_trec,
}


@click.command("rank")
@click.argument("query")
@click.argument("sources", nargs=-1, metavar="[FILE|-|TEXTS...]")
@click.option("-m", "--model", help="Hub name, folder or short name; the embedded model by default.")
@source_options
@click.option("-k", "--top-k", type=int, help="How many of the best results to keep; all by default.")
@backend_options
@click.option("-f", "--format", "output", type=click.Choice(list(OUTPUTS)), default="table", show_default=True)
@input_options
@click.option("--query-id", default="1", show_default=True, help="The query's id in a TREC run.")
def command(
    query: str,
    sources: tuple[str, ...],
    model: str | None,
    top_k: int | None,
    pairs: tuple[str, ...],
    output: str,
    input_format: str | None,
    query_id: str,
    skip_bad_lines: bool,
    text_fields: tuple[str, ...],
    **source: Any,
) -> None:
    """Rank documents for QUERY.

    Documents come from one FILE, from standard input ("-" or nothing), or are the TEXTS themselves. A file has one
    text per line, or is JSON lines, a JSON array, CSV, TSV or TREC documents, also in gzip; rows have "text", and may
    have "id" and "meta". Of rows in BEIR's layout (_id, title, text), title and text are ranked.

    \b
      rerank rank "what is a panda?" passages.jsonl --top-k 3
      cat notes.txt | rerank rank "open questions" --format tsv
      rerank rank "capital of France" "Paris is." "Lyon is not."
    """
    documents = read_inputs(sources, input_format, skip_bad_lines, text_fields)
    with Reranker(model, **{**source, **read_options(pairs)}) as reranker:
        ranked = reranker.rank(query, documents, top_k=top_k)
    try:
        text = OUTPUTS[output](ranked, query_id)
    except ValueError as error:  # metadata that JSON cannot hold
        raise InvalidInputError(f"a document's metadata cannot be written as {output}: {error}; fix it") from error
    if text:
        click.echo(text)
