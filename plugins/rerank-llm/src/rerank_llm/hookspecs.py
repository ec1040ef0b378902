"""The hook through which a third party adds a recipe. A complete plugin:

```python
from rerank import hookimpl
from rerank_llm import Recipe

@hookimpl
def rerank_register_recipes():
    yield Recipe(
        name="acme",
        source="Acme's model card",
        pieces=("Question: {query}\\nText: {document}\\nRelevant (yes or no):",),
        true=" yes",
        false=" no",
        max_length=2048,
        models=("acme/reranker-*",),
    )
```

and in its ``pyproject.toml``: ``[project.entry-points.rerank]`` with ``acme = "rerank_acme"``. Then
``Reranker("acme/reranker-1b")`` is prompted like that, and so is any model with ``recipe="acme"``.
"""

from __future__ import annotations

from collections.abc import Iterable

from rerank.hookspecs import hookspec
from rerank_llm.recipe import Recipe


@hookspec
def rerank_register_recipes() -> Iterable[Recipe]:  # type: ignore[empty-body]
    """Describe recipes.

    Called once per process, when a model's recipe is first looked up. Keep it cheap: a recipe is plain data.
    """
