"""Pairwise ranking prompting (arXiv 2306.17563): which of two passages is more relevant? Any model can be asked like that."""

from __future__ import annotations

from typing import Final

from rerank_listwise.recipe import Recipe, Turn
from rerank_listwise.recipes.setwise import PRIMED, QUOTED


def _question(blank_line: str) -> Turn:
    return Turn(
        role="user",
        text='Given a query "{query}", which of the following two passages is more relevant to the query?\n'
        f"{blank_line}\n"
        "{passages}\n\n"
        "Output Passage A or Passage B:",
    )


RECIPES: Final = (
    Recipe(
        name="pairwise",
        source="ielab/llm-rankers, llmrankers/pairwise.py: for T5, which writes its answer",
        kind="compare",
        turns=(_question(""),),
        reads="choice",
        algorithm="pairwise-heapsort",
        **QUOTED,
    ),
    Recipe(
        name="pairwise-labels",
        source="ielab/llm-rankers, llmrankers/pairwise.py: for Llama, whose answer is begun and has one token",
        kind="compare",
        turns=(_question(""),),
        begun=PRIMED,
        labels=True,
        reads="choice",
        algorithm="pairwise-heapsort",
        **QUOTED,
    ),
    Recipe(
        name="pairwise-openai",
        source="ielab/llm-rankers, llmrankers/pairwise.py: for OpenAI's models, with eight spaces in the first blank line",
        kind="compare",
        turns=(
            Turn(
                role="system",
                text="You are RankGPT, an intelligent assistant specialized in selecting the most relevant passage "
                "from a pair of passages based on their relevance to the query.",
            ),
            _question(" " * 8),
        ),
        reads="choice",
        algorithm="pairwise-heapsort",
        **QUOTED,
    ),
)
