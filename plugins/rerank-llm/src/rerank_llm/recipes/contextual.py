"""ContextualAI's second generation, which reads the query after the document."""

from __future__ import annotations

from typing import Final

from rerank_llm.recipe import Recipe

_HEAD: Final = (
    "Check whether a given document contains information helpful to answer the query.\n<Document> {document}\n"
)

RECIPES: Final = (
    Recipe(
        name="ctxl-v2",
        source="cohere-ai/rcp-ndcg, recipes/ctxl…/reference.py; the checkpoint's 1_LogitScore/config.json",
        pieces=(_HEAD + "<Query> {query} ??",),
        instructed=(_HEAD + "<Query> {query} {instruction} ??",),
        true=0,
        max_length=8192,
        models=("ContextualAI/ctxl-rerank-v2-instruct-multilingual-*",),
    ),
)
