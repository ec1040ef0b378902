"""Other prompts for any chat model: LRL (arXiv 2305.02156) and APEER (arXiv 2406.14449)."""

from __future__ import annotations

from typing import Final

from rerank_listwise.recipe import Recipe, Turn

RECIPES: Final = (
    Recipe(
        name="lrl",
        source="castorini/rank_llm, prompt_templates/rank_lrl_template.yaml",
        turns=(
            Turn(
                role="user",
                text="Sort the list PASSAGES by how good each text answers the QUESTION "
                "(in descending order of relevancy).\n"
                "{passages}\n"
                'QUESTION: "{query}"\n'
                "PASSAGES: [{identifiers}]\n"
                "Sort the PASSAGES by their relevance to the Query. "
                "The answer should be a sorted list of PASSAGE ids (e.g., [PASSAGE2, ..., PASSAGE1]). "
                "Do not include any additional words or explanations.\n"
                "SORTED_PASSAGES =",
            ),
        ),
        passage='PASSAGE{number} = "{passage}"',
        identifier="PASSAGE{number}",
    ),
    Recipe(
        name="apeer",
        source="castorini/rank_llm, prompt_templates/rank_gpt_apeer_template.yaml",
        turns=(
            Turn(
                role="system",
                text="As RankGPT, your task is to evaluate and rank unique passages "
                "based on their relevance and accuracy to a given query. "
                "Prioritize passages that directly address the query and provide detailed, correct answers. "
                "Ignore factors such as length, complexity, or writing style unless they seriously hinder readability.",
            ),
            Turn(
                role="user",
                text="In response to the query: [querystart] {query} [queryend], rank the passages. "
                "Ignore aspects like length, complexity, or writing style, "
                "and concentrate on passages that provide a comprehensive understanding of the query. "
                "Take into account any inaccuracies or vagueness in the passages when determining their relevance.\n"
                "{passages}\n"
                "Given the query: [querystart] {query} [queryend], "
                "produce a succinct and clear ranking of all passages, from most to least relevant, "
                "using their identifiers. "
                "The format should be [rankstart] [most relevant passage ID] > [next most relevant passage ID] > ... > "
                "[least relevant passage ID] [rankend]. "
                "Refrain from including any additional commentary or explanations in your ranking.",
            ),
        ),
    ),
)
