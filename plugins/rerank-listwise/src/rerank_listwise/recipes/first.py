"""FIRST (arXiv 2406.15657): passages have letters, and the probabilities of the first one order them all in one step."""

from __future__ import annotations

from typing import Final

from rerank_listwise.recipe import Recipe, Turn
from rerank_listwise.recipes.rank_llm import CONCISELY, ONLY, RANK_LLM, in_one_message

RECIPES: Final = (
    Recipe(
        name="first",
        source="gangiswag/llm-reranker, scripts/utils/rank_listwise_os_llm.py and dataset.py",
        turns=(
            Turn(role="system", text=RANK_LLM),
            in_one_message("[B] > [A]", ONLY, identifier="a alphabetical identifier"),
        ),
        letters=True,
        labels=True,
        begun="[",
        joins_system="\n ",
        models=("castorini/first_*", "rryisthebest/First_Model"),
    ),
    Recipe(
        name="first-2025",
        source="castorini/rank_llm, prompt_templates/rank_zephyr_alpha_template.yaml since June 2025",
        turns=(
            Turn(role="system", text=RANK_LLM),
            in_one_message("[B] > [A]", CONCISELY, gap="\n", identifier="an alphabetical identifier"),
        ),
        letters=True,
        labels=True,
        begun="[",
        joins_system="\n ",
    ),
)
