"""The hooks through which other plugins add generators and recipes. A complete plugin:

```python
from rerank import hookimpl
from rerank_listwise import Recipe, Turn

@hookimpl
def rerank_register_listwise_recipes():
    yield Recipe(
        name="acme",
        source="Acme's model card",
        turns=(Turn(role="user", text="Query: {query}\\n{passages}\\nBest first, as in [2] > [1]:"),),
        models=("acme/listwise-*",),
    )
```

and in its ``pyproject.toml``: ``[project.entry-points.rerank]`` with ``acme = "rerank_acme"``. Then
``Reranker("acme/listwise-7b")`` is asked like that, and so is any model with ``recipe="acme"``.
"""

from __future__ import annotations

from collections.abc import Iterable

from rerank.hookspecs import hookspec
from rerank_listwise.generator import Generator
from rerank_listwise.recipe import Recipe


@hookspec
def rerank_register_generators() -> Iterable[Generator]:  # type: ignore[empty-body]
    """Describe generators: ways to run language models.

    Called once per process, when the backends of this distribution are described, because their options are those of all
    generators. Keep it cheap: import nothing heavy until `Generator.load`.
    """


@hookspec
def rerank_register_listwise_recipes() -> Iterable[Recipe]:  # type: ignore[empty-body]
    """Describe recipes.

    Called once per process, when a model's recipe is first looked up. Keep it cheap: a recipe is plain data.
    """
