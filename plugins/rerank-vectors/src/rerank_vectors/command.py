"""``rerank encode [FILE|-|TEXTS…]``: keep the vectors of documents before any query is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from rerank import Document, InvalidOptionsError, Reranker, installed
from rerank.cli.inputs import input_options, read_inputs
from rerank.cli.source import backend_options, read_options, source_options
from rerank_vectors.cache import Filled
from rerank_vectors.documents import EncodesDocuments
from rerank_vectors.folder import list_segments
from rerank_vectors.options import VectorOptions

_GROUP: Final = 128
"""Documents that are encoded, then written, before the bar moves: what an interrupt can lose."""


@click.command("encode")
@click.argument("sources", nargs=-1, metavar="[FILE|-|TEXTS...]")
@click.option("-m", "--model", help="Hub name, folder or short name; the embedded model by default.")
@source_options
@click.option("--vectors", metavar="DIR", default="disk", help="Where to keep vectors; a folder for caches by default.")
@backend_options
@input_options
def command(
    sources: tuple[str, ...],
    model: str | None,
    vectors: str,
    pairs: tuple[str, ...],
    input_format: str | None,
    skip_bad_lines: bool,
    text_fields: tuple[str, ...],
    **source: Any,
) -> None:
    """Encode documents and keep their vectors, so that ranking them encodes only the query.

    Documents come from one FILE, from standard input ("-" or nothing), or are the TEXTS themselves, in the formats of
    "rerank rank". What is kept already is not encoded again, so an interrupted run goes on where it stopped. Give
    the same model and options when you rank.

    \b
      rerank encode passages.jsonl
      rerank rank "what is a panda?" passages.jsonl --option vectors=disk
    """
    documents = read_inputs(sources, input_format, skip_bad_lines, text_fields)
    texts = list(dict.fromkeys(map(_text, documents)))
    with _load(model, {**source, "vectors": vectors, **read_options(pairs)}) as reranker:
        scorer, folder = reranker.scorer, _folder_of(reranker)
        if not isinstance(scorer, EncodesDocuments):
            raise InvalidOptionsError(
                f"backend {reranker.backend!r} encodes no documents apart from a query with {reranker.model}: "
                f"choose a model of late interaction, of {_able()}"
            )
        encoded, truncated = _encode(scorer, texts, reranker)
    size = sum(segment.size for segment in list_segments(folder))
    click.echo(
        f"encoded {encoded} document{'s' * (encoded != 1)}, of which {truncated} lost tokens; "
        f"{len(texts) - encoded} were there already; {folder} holds {size / 1e6:.1f} MB"
    )


def _text(document: str | Mapping[str, Any] | Document) -> str:
    if isinstance(document, str):
        return document
    return document.text if isinstance(document, Document) else str(document["text"])


def _load(model: str | None, options: dict[str, Any]) -> Reranker:
    """A reranker that keeps vectors.

    Raises:
        InvalidOptionsError: Its backend keeps none, or an option is wrong; the message names the backends that do.
    """
    try:
        return Reranker(model, **options)
    except InvalidOptionsError as error:
        if "vectors" not in str(error):
            raise
        raise InvalidOptionsError(f"{error}; the backends that keep document vectors are {_able()}") from error


def _able() -> str:
    """The installed backends that keep document vectors."""
    backends = installed().backends.values()
    return ", ".join(backend.name for backend in backends if issubclass(backend.options, VectorOptions))


def _folder_of(reranker: Reranker) -> Path:
    """Where a reranker keeps vectors.

    Raises:
        InvalidOptionsError: In memory, or nowhere.
    """
    assert isinstance(reranker.options, VectorOptions)
    if reranker.options.vectors_folder is None:
        raise InvalidOptionsError("vectors in memory end with this command: give --vectors a folder, or leave it out")
    return reranker.options.vectors_folder


def _encode(scorer: EncodesDocuments, texts: Sequence[str], reranker: Reranker) -> Filled:
    """Encode documents in groups under one progress bar."""
    from tqdm import tqdm

    encoded = truncated = 0
    options = reranker.options.model_copy(update={"progress": False})
    disable = None if reranker.options.progress else True  # None: unless standard error is a terminal
    with tqdm(total=len(texts), unit="document", disable=disable) as bar:
        for start in range(0, len(texts), _GROUP):
            group = texts[start : start + _GROUP]
            filled = scorer.encode_documents(group, options)
            encoded, truncated = encoded + filled.encoded, truncated + filled.truncated
            bar.update(len(group))
    return Filled(encoded, truncated)
