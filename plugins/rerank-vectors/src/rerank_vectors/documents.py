"""What a backend hands over to be kept: the vectors of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from rerank import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rerank_vectors.cache import Filled


@dataclass(frozen=True, slots=True)
class DocumentVectors:
    """The vectors of one document. Those that come out of a `DocumentCache` that keeps them are read-only.

    Args:
        windows: One array ``(vectors, dimensions)`` per window of the document; a short document has one window. An
            array may have no rows.
        truncated: Whether the document lost tokens.
    """

    windows: tuple[NDArray[Any], ...]
    truncated: bool = False


@runtime_checkable
class EncodesDocuments(Protocol):
    """A scorer that can encode documents before any query is known.

    One that has its `DocumentCache` as ``cache`` lets ``rerank encode`` report how many documents lost tokens.
    """

    def encode_documents(self, texts: Sequence[str], options: Options) -> Filled:
        """Encode the documents whose vectors are not kept yet, and keep them.

        Args:
            texts: The documents.
            options: As in a `rerank.Request`.

        Raises:
            InvalidOptionsError: The model was loaded without ``vectors``.
        """
        ...
