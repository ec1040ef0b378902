"""RankZephyr and RankVicuna (arXiv 2312.02724, 2309.15088): all passages in one message of the user's."""

from __future__ import annotations

from typing import Final

from rerank_listwise.recipe import Recipe, Turn

RANK_LLM: Final = (
    "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
)
_VICUNA_CHAT: Final = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def in_one_message(
    example: str,
    end: str,
    *,
    gap: str = "\n\n",
    identifier: str = "a numerical identifier",
    output: str = "output format",
) -> Turn:
    """The message in which RankZephyr and its kin read all passages.

    Args:
        example: The example of an answer.
        end: What stands after the example.
        gap: What stands before the first passage.
        identifier: What the passages are said to have.
        output: What is said to have the format.
    """
    return Turn(
        role="user",
        text=f"I will provide you with {{count}} passages, each indicated by {identifier} []. "
        f"Rank the passages based on their relevance to the search query: {{query}}.{gap}{{passages}}\n"
        "Search Query: {query}.\n"
        "Rank the {count} passages above based on their relevance to the search query. "
        "All the passages should be included and listed using identifiers, in descending order of relevance. "
        f"The {output} should be [] > [], e.g., {example}{end}",
    )


ONLY: Final = ", Only respond with the ranking results, do not say any word or explain."
CONCISELY: Final = (
    ", Answer concisely and directly and only respond with the ranking results, do not say any word or explain."
)

RECIPES: Final = (
    Recipe(
        name="rankzephyr",
        source="castorini/rank_llm before June 2025, with which RankZephyr was trained and evaluated; gangiswag/llm-reranker",
        turns=(Turn(role="system", text=RANK_LLM), in_one_message("[2] > [1]", ONLY)),
        joins_system="\n ",
        models=("castorini/rank_zephyr_7b*", "rank_zephyr_7b_v1_full"),  # the latter is FlashRank's name
    ),
    Recipe(
        name="rankzephyr-2025",
        source="castorini/rank_llm, prompt_templates/rank_zephyr_template.yaml since June 2025",
        turns=(Turn(role="system", text=RANK_LLM), in_one_message("[2] > [1]", CONCISELY, gap="\n")),
        joins_system="\n ",
    ),
    Recipe(
        name="rankvicuna",
        source="castorini/rank_llm in 2023: prompts recorded with RankVicuna",
        turns=(
            Turn(
                role="system",
                text="You are RankVicuna, an intelligent assistant that can rank passages "
                "based on their relevancy to the query.",
            ),
            in_one_message("[4] > [2]", f"{ONLY} "),
        ),
        without_chat_template="vicuna",
        models=("castorini/rank_vicuna_7b*",),
    ),
    Recipe(
        name="rankvicuna-chat",
        source="castorini/rank_llm in 2023: prompts recorded with RankVicuna and the system message of Vicuna's own chat",
        turns=(Turn(role="system", text=_VICUNA_CHAT), in_one_message("[4] > [2]", f"{ONLY} ")),
        without_chat_template="vicuna",
    ),
)
