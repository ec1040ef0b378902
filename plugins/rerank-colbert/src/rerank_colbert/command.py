"""``rerank matches QUERY [FILE|-|TEXTS…]``: which tokens of a document each token of the query matches."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any, Final

import click

from rerank import InvalidInputError, InvalidOptionsError, RankedResults, Reranker
from rerank.cli.inputs import input_options, read_inputs
from rerank.cli.source import backend_options, read_options, source_options
from rerank_colbert.heatmap import check_drawing, draw_png
from rerank_colbert.page import as_html
from rerank_colbert.terminal import as_terminal

_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)
_RANK: Final = "{rank}"


@click.command("matches")
@click.argument("query")
@click.argument("sources", nargs=-1, metavar="[FILE|-|TEXTS...]")
@click.option("-m", "--model", default="colbert", show_default=True, help="Hub name, folder or short name.")
@source_options
@click.option("-k", "--top-k", type=int, default=3, show_default=True, help="How many of the best documents to show.")
@backend_options
@click.option("--html", type=_FILE, help="Also write a page with the documents and their heat maps.")
@click.option(
    "--png",
    type=_FILE,
    help="Also draw the heat map of the best document; with {rank} in the name, of each document. "
    "Needs rerank-colbert[drawing].",
)
@input_options
def command(
    query: str,
    sources: tuple[str, ...],
    model: str,
    top_k: int,
    pairs: tuple[str, ...],
    html: Path | None,
    png: Path | None,
    input_format: str | None,
    skip_bad_lines: bool,
    text_fields: tuple[str, ...],
    **source: Any,
) -> None:
    """Show which tokens of the best documents each token of QUERY matches.

    Documents come from one FILE, from standard input ("-" or nothing), or are the TEXTS themselves, as for "rerank
    rank". The stronger the colour of a token, the more of its document's score comes from it.

    \b
      rerank matches "what is a panda?" passages.jsonl
      rerank matches "what is a panda?" passages.jsonl --html matches.html --png "matches-{rank}.png"
    """
    _check_files(html, png)
    documents = read_inputs(sources, input_format, skip_bad_lines, text_fields)
    if not documents:
        raise InvalidInputError("there are no documents to show matches in: give at least one")
    with Reranker(model, **{**source, **read_options(pairs)}) as reranker:
        if "matches" not in type(reranker.options).model_fields:
            raise _no_matches(reranker.backend)
        kind = "matrix" if html or png else True
        ranked = reranker.rank(query, documents, top_k=top_k, matches=kind)
    if any("matches" not in result.details for result in ranked):
        raise _no_matches(ranked.backend)
    coloured = False if os.environ.get("NO_COLOR") else None  # None: if the output is a terminal
    click.echo(as_terminal(ranked, shutil.get_terminal_size((100, 24)).columns), color=coloured)
    if html:
        _write(html, as_html(ranked).encode())
    if png:
        _draw(png, ranked)


def _check_files(html: Path | None, png: Path | None) -> None:
    """Refuse, before a model is loaded, what could not be written after."""
    for path in filter(None, (html, png)):
        if not path.parent.is_dir():
            raise InvalidInputError(
                f"{path} cannot be written (there is no folder {path.parent}): make it, or name another file"
            )
    if png:
        check_drawing()


def _no_matches(backend: str) -> InvalidOptionsError:
    return InvalidOptionsError(
        f"backend {backend!r} does not report which tokens match: choose a model of late interaction, "
        "with --backend colbert if several backends could run it"
    )


def _draw(png: Path, ranked: RankedResults) -> None:
    shown = ranked.results if _RANK in png.name else ranked.results[:1]
    for result in shown:
        image = io.BytesIO()
        draw_png(result, ranked.query, image)
        _write(png.with_name(png.name.replace(_RANK, str(result.rank))), image.getvalue())


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written ({error.strerror or error}): name another file") from error
    click.echo(f"wrote {path}", err=True)
