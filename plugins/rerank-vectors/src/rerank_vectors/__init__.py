"""Document vectors that are kept, so that a document seen before is not encoded again; it registers no backend.

The names here import without numpy, so that a plugin can describe itself in milliseconds.
"""

from rerank_vectors.cache import HELD_DOCUMENTS, KEPT_NOWHERE, DocumentCache, Filled, compare_in_groups
from rerank_vectors.documents import DocumentVectors, EncodesDocuments
from rerank_vectors.options import VectorOptions, default_folder

__all__ = [
    "HELD_DOCUMENTS",
    "KEPT_NOWHERE",
    "DocumentCache",
    "DocumentVectors",
    "EncodesDocuments",
    "Filled",
    "VectorOptions",
    "compare_in_groups",
    "default_folder",
]
