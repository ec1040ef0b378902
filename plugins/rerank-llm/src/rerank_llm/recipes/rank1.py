"""Rank1, which writes a chain of thought before its verdict."""

from __future__ import annotations

from typing import Final

from rerank_llm.recipe import Recipe

_TEXTS: Final = "Query: {query}\nPassage: {document}\n<think>"

RECIPES: Final = (
    Recipe(
        name="rank1",
        source="orionw/rank1, rank1.py",
        kind="reasoning",
        pieces=(
            "Determine if the following passage is relevant to the query. Answer only with 'true' or 'false'.\n"
            + _TEXTS,
        ),
        begins=None,
        true=" true",
        false=" false",
        max_length=8192,
        models=("jhu-clsp/rank1-*",),
    ),
)
