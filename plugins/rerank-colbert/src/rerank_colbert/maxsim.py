"""MaxSim: for each vector of a query its best match in a document, added up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def maxsim(query: NDArray[np.float32], documents: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """The sum over the query's vectors of the largest inner product with a vector of the document.

    Khattab and Zaharia, ColBERT (SIGIR 2020), section 3.3. Documents lie end to end, without padding, so that no pad needs
    a mask and none is multiplied.

    Args:
        query: ``(query_vectors, dimensions)``.
        documents: ``(document_vectors, dimensions)`` each, with at least one vector.

    Returns:
        ``(documents,)``.
    """
    lengths = [len(document) for document in documents]
    starts = np.cumsum([0, *lengths[:-1]])  # (documents,)
    packed = torch.from_numpy(np.concatenate(documents)).float()  # (vectors of all documents, dimensions)
    products = (packed @ torch.from_numpy(query).T).numpy()  # (vectors of all documents, query_vectors)
    best = np.maximum.reduceat(products, starts, axis=0)  # (documents, query_vectors)
    return np.asarray(best.sum(axis=1))
