"""Document vectors by text: encoded once, kept in memory or on disk, and rounded alike whether kept or new."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from rerank import InvalidOptionsError, ModelRef, ScoringError
from rerank_vectors.collection import canonical, describe, digest
from rerank_vectors.documents import DocumentVectors
from rerank_vectors.folder import Folder
from rerank_vectors.memory import Memory
from rerank_vectors.options import VectorOptions
from rerank_vectors.store import Store

T = TypeVar("T")

KEPT_NOWHERE: Final = "vectors are kept nowhere: load the model with vectors='disk', or a folder"
"""Why documents cannot be encoded ahead of time."""

HELD_DOCUMENTS: Final = 1024
HELD_CHARACTERS: Final = 4 * 2**20
"""The vectors of how many documents, and of how many characters of them, are in memory at once."""


class Filled(NamedTuple):
    """What `DocumentCache.fill` did.

    Args:
        encoded: How many documents were not kept before.
        truncated: How many of those lost tokens.
    """

    encoded: int
    truncated: int


class DocumentCache:
    """The vectors of one model's documents. Safe to call from several threads at once.

    Args:
        options: Where vectors are kept, as what, and how many.
        model: The model; one on this machine is named by its folder.
        recipe: Plain data: whatever changes a document's vectors besides the model's files, such as a prompt, lengths,
            the model's dtype, and the version of the recipe itself.
        dimensions: Of every vector.

    Raises:
        InvalidOptionsError: The folder cannot be written, or is no folder.
    """

    def __init__(self, options: VectorOptions, model: ModelRef, recipe: Mapping[str, Any], dimensions: int) -> None:
        from rerank_vectors.packing import Packing  # with numpy, which describing a backend does not need

        self._packing = Packing(options.vectors_dtype, dimensions)
        self._store: Store | None = None
        if options.vectors == "memory":
            self._store = Memory(options.vectors_max_bytes)
        elif options.vectors_folder is not None:
            about = describe(model, recipe, dimensions, options.vectors_dtype)
            self._store = Folder(options.vectors_folder, digest(about), about, options.vectors_max_bytes)

    def encode(
        self,
        texts: Sequence[str],
        encode: Callable[[list[str]], Sequence[DocumentVectors]],
        settings: Mapping[str, Any] = {},
    ) -> list[DocumentVectors]:
        """The vectors of documents. Where they are kept, new ones come back in the form that is kept, too.

        Args:
            texts: The documents.
            encode: Encodes documents; called once with those that are not kept, not at all if there are none.
            settings: Plain data: what this call sets that changes the vectors, such as ``max_length``.

        Returns:
            One per text, in their order.

        Raises:
            ScoringError: ``encode`` returned another number of documents, or vectors that cannot be kept.
        """
        keys = _keys(texts, settings)
        found = {} if self._store is None else self._store.get(keys.values())
        missing = [text for text, key in keys.items() if key not in found]
        fresh = encode(missing) if missing else []
        if len(fresh) != len(missing):
            raise ScoringError(f"the model encoded {len(missing)} documents as {len(fresh)}: report it to its authors")
        documents = dict(zip(missing, fresh))
        if self._store is not None:
            packed = {keys[text]: self._packing.pack(document, text) for text, document in documents.items()}
            self._store.put(packed)
            found |= packed
            documents = {text: self._packing.unpack(found[key]) for text, key in keys.items()}
        return [documents[text] for text in texts]

    def groups(
        self,
        texts: Sequence[str],
        encode: Callable[[list[str]], Sequence[DocumentVectors]],
        settings: Mapping[str, Any] = {},
    ) -> Iterator[list[DocumentVectors]]:
        """Like `encode`, some documents at a time, so that any number of them fits into memory."""
        for group in _split(texts):
            yield self.encode(group, encode, settings)

    def fill(
        self,
        texts: Sequence[str],
        encode: Callable[[list[str]], Sequence[DocumentVectors]],
        settings: Mapping[str, Any] = {},
    ) -> Filled:
        """Encode the documents that are not kept yet, and keep them.

        Raises:
            InvalidOptionsError: Nothing is kept, with ``vectors=None``.
            ScoringError: As for `encode`.
        """
        if self._store is None:
            raise InvalidOptionsError(KEPT_NOWHERE)
        missing = self.missing(texts, settings)
        truncated = sum(document.truncated for group in self.groups(missing, encode, settings) for document in group)
        return Filled(len(missing), truncated)

    def missing(self, texts: Sequence[str], settings: Mapping[str, Any] = {}) -> list[str]:
        """The documents whose vectors are not kept, each once.

        Args:
            texts: The documents.
            settings: As for `encode`.
        """
        keys = _keys(texts, settings)
        missing = set(keys.values()) if self._store is None else self._store.missing(keys.values())
        return [text for text, key in keys.items() if key in missing]

    def close(self) -> None:
        """Release files and memory."""
        if self._store is not None:
            self._store.close()


def compare_in_groups(
    groups: Iterator[list[DocumentVectors]],
    counts: Sequence[int],
    compare: Callable[[int, list[DocumentVectors]], Sequence[T]],
) -> Iterator[tuple[list[T], int]]:
    """Score the documents of several requests, one group of them in memory at once.

    Args:
        groups: The documents of all requests, in order, as from `DocumentCache.groups`.
        counts: How many documents each request has.
        compare: Takes the position of a request and some of its documents, and returns their scores, or
            those of their windows.

    Returns:
        Per request its documents' scores, and how many documents lost tokens.

    Raises:
        ScoringError: There are fewer documents than requests have.
    """
    held: list[DocumentVectors] = []
    for position, count in enumerate(counts):
        values: list[T] = []
        truncated, left = 0, count
        while left:
            held = held or next(groups, [])
            if not held:
                raise ScoringError(f"{left} documents of a request have no vectors: report it to the backend's authors")
            own, held = held[:left], held[left:]
            values += compare(position, own)
            truncated += sum(document.truncated for document in own)
            left -= len(own)
        yield values, truncated


def _split(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The texts in groups that are held at once; a text that is longer on its own is a group."""
    start = characters = 0
    for end, text in enumerate(texts):
        if end > start and (end - start == HELD_DOCUMENTS or characters + len(text) > HELD_CHARACTERS):
            yield texts[start:end]
            start, characters = end, 0
        characters += len(text)
    if start < len(texts):
        yield texts[start:]


def _keys(texts: Sequence[str], settings: Mapping[str, Any]) -> dict[str, bytes]:
    """The key of each distinct text's entry."""
    shared = hashlib.blake2b(canonical(settings) + b"\0", digest_size=16)  # JSON contains no such byte
    keys = {}
    for text in dict.fromkeys(texts):
        own = shared.copy()
        own.update(text.encode("utf-8", "surrogatepass"))
        keys[text] = own.digest()
    return keys
