"""Hosted and self-hosted rerank services behind one protocol.

```python
from rerank import Reranker

Reranker("cohere", lang="en").rank("what is a panda?", ["a bear of China", "a kind of bread"])
Reranker("my_model", api_provider="jina", api_key="…")
Reranker("tei", url="http://localhost:8080")
```

A `Provider` describes a service: its address, its requests, and how its answers are read. Third parties add theirs
through the ``rerank_register_providers`` hook: see `rerank_api.hookspecs` for a complete example.
"""

from rerank_api.answers import read_list, read_scores
from rerank_api.options import ApiOptions
from rerank_api.provider import Connection, Provider, Question, RawAnswer
from rerank_http import Reply, bearer

__all__ = [
    "ApiOptions",
    "Connection",
    "Provider",
    "Question",
    "RawAnswer",
    "Reply",
    "bearer",
    "read_list",
    "read_scores",
]
