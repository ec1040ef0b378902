"""What the network plugins share; it registers no backend.

The names here import without httpx, so that a plugin can describe itself in milliseconds; the other modules are
imported when a model loads.
"""

from rerank import Secrets
from rerank_http.keys import read_key
from rerank_http.options import HttpOptions
from rerank_http.wire import Reply, Sender, bearer, merge_headers

__all__ = ["HttpOptions", "Reply", "Secrets", "Sender", "bearer", "merge_headers", "read_key"]
