"""RankGPT (arXiv 2304.09542): the passages come one by one in a conversation. Any chat model can be asked like that."""

from __future__ import annotations

from typing import Final

from rerank_listwise.recipe import Recipe, Turn

_SYSTEM: Final = "an intelligent assistant that can rank passages based on their relevancy to the query."
_TASK: Final = (
    "Rank the {count} passages above based on their relevance to the search query. "
    "The passages should be listed in descending order using identifiers. "
    "The most relevant passages should be listed first. "
    "The output format should be [] > [], e.g., [1] > [2]. "
    "Only response the ranking results, do not say any word or explain."
)


def _turns(name: str, after_identifier: str, after_query: str) -> tuple[Turn, ...]:
    """The conversation, whose versions differ in the name of the assistant and in white space."""
    return (
        Turn(role="system", text=f"You are {name}, {_SYSTEM}"),
        Turn(
            role="user",
            text="I will provide you with {count} passages, each indicated by number identifier []."
            f"{after_identifier}Rank the passages based on their relevance to query: {{query}}.",
        ),
        Turn(role="assistant", text="Okay, please provide the passages."),
        Turn(role="user", text="[{number}] {passage}", each=True),
        Turn(role="assistant", text="Received passage [{number}].", each=True),
        Turn(role="user", text=f"Search Query: {{query}}.{after_query}{_TASK}"),
    )


RECIPES: Final = (
    Recipe(
        name="rankgpt",
        source="sunnweiwei/RankGPT, rank_gpt.py, with the example of ielab/llm-rankers, llmrankers/listwise.py",
        turns=_turns("RankGPT", " \n", " \n"),
    ),
    Recipe(
        name="rankgpt-rank-llm",
        source="castorini/rank_llm, prompt_templates/rank_gpt_template.yaml: no space before the line breaks",
        turns=_turns("RankGPT", "\n", "\n"),
    ),
    Recipe(
        name="vicuna-turns",
        source="castorini/rank_llm in 2023, with lmsys/vicuna-7b-v1.5, which was not trained for it",
        turns=_turns("Vicuna", " \n", " \n"),
        without_chat_template="vicuna",
    ),
)
