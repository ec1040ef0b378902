"""Any model that follows instructions, asked without training: a verdict, or the likelihood of the query."""

from __future__ import annotations

from typing import Final

from rerank_llm.recipe import Recipe

RECIPES: Final = (
    Recipe(
        name="yes-no",
        source="ielab/llm-rankers, llmrankers/pointwise.py",
        chat=True,
        begins=None,
        pieces=("Passage: {document}\nQuery: {query}\nDoes the passage answer the query? Answer 'Yes' or 'No'",),
        true="Yes",
        false="No",
        max_length=2048,
    ),
    Recipe(
        name="query-likelihood",
        source="ielab/llm-rankers, llmrankers/pointwise.py; arXiv 2204.07496",
        kind="likelihood",
        chat=True,
        begins=None,
        pieces=("Passage: {document}\nPlease write a question based on this passage.",),
        max_length=2048,
        query_max_length=128,
    ),
)
