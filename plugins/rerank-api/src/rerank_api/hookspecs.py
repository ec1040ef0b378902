"""The hook through which a third party adds a provider. A complete plugin:

```python
from rerank import hookimpl
from rerank_api import Provider, read_list

@hookimpl
def rerank_register_providers():
    yield Provider(
        name="acme",
        summary="Acme's reranker",
        url="https://api.acme.example",
        path="/v1/rerank",
        keys=("ACME_API_KEY",),
        models={"other": "acme-rerank-1"},
        request=lambda question: {
            "model": question.model, "query": question.query, "texts": question.texts, "limit": question.top_k
        },
        answer=read_list("hits", index="position", score="relevance", usage=("usage",)),
    )
```

and in its ``pyproject.toml``: ``[project.entry-points.rerank]`` with ``acme = "rerank_acme"``. Then
``Reranker("acme")`` and ``Reranker("any-model", api_provider="acme")`` work.
"""

from __future__ import annotations

from collections.abc import Iterable

from rerank.hookspecs import hookspec
from rerank_api.provider import Provider


@hookspec
def rerank_register_providers() -> Iterable[Provider]:  # type: ignore[empty-body]
    """Describe providers.

    Called once per process, when a provider's name is first looked up or the backends are listed. Keep it cheap: import
    nothing heavy until `Provider.connect`.
    """
