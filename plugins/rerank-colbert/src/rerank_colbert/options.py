"""The backend's options; imports no heavy library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rerank_colbert.recipe import Augmentation
from rerank_torch import TorchOptions
from rerank_vectors import VectorOptions


class ColbertOptions(VectorOptions, TorchOptions):
    """Options of the backend ``colbert``, besides those of every torch backend and those of kept document vectors.

    ``max_length`` is the token count per document, special tokens included (ColBERT's ``doc_maxlen``); None means the
    checkpoint's, within the model's limit.

    Args:
        query_max_length: Token count per query, special tokens and augmentation included (ColBERT's ``query_maxlen``); None
            means the checkpoint's, or the model's limit if ``augmentation`` lets queries grow. A longer query is cut with a
            warning.
        augmentation: What a short query is filled with: ``fixed`` adds [MASK] tokens up to the query's length, ``minimum``
            adds them to queries below the checkpoint's length and cuts no longer ones, ``dynamic`` adds at least eight up
            to a multiple of 16 (AnswerDotAI rerankers 0.10.0), ``none`` adds none. None follows the checkpoint.
        matches: True fills ``details["matches"]``: which token of the document each token of the query matched, and with
            which score; of a document in windows, those of its best window, or of the first with ``aggregate="first"``.
            ``matrix`` also fills ``details["matrix"]`` with all similarities. Only results are explained.
    """

    query_max_length: int | None = Field(default=None, ge=4)
    augmentation: Augmentation | None = None
    matches: bool | Literal["matrix"] = False
