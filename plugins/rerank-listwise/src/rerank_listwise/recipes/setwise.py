"""Setwise prompting (arXiv 2310.09497): which of a few passages is the most relevant? Any model can be asked like that."""

from __future__ import annotations

from typing import Any, Final

from rerank_listwise.recipe import Recipe, Turn

QUOTED: Final[dict[str, Any]] = {
    "passage": 'Passage {number}: "{passage}"',
    "separator": "\n\n",
    "letters": True,
    "max_passage_tokens": 128,
}
"""How passages are written here and in `rerank_listwise.recipes.pairwise`."""
PRIMED: Final = " Passage:"
"""What an answer begins with whose next token is a letter."""

_QUESTION: Final = (
    'Given a query "{query}", which of the following passages is the most relevant one to the query?\n\n'
    "{passages}\n\n"
    "Output only the passage label of the most relevant passage"
)

RECIPES: Final = (
    Recipe(
        name="setwise",
        source="ielab/llm-rankers, llmrankers/setwise.py: for T5, which writes its answer",
        kind="best",
        turns=(Turn(role="user", text=f"{_QUESTION}:"),),
        reads="choice",
        algorithm="setwise-heapsort",
        **QUOTED,
    ),
    Recipe(
        name="setwise-labels",
        source="ielab/llm-rankers, llmrankers/setwise.py: for Llama, whose answer is begun and has one token",
        kind="best",
        turns=(Turn(role="user", text=f"{_QUESTION}:"),),
        begun=PRIMED,
        labels=True,
        reads="choice",
        algorithm="setwise-heapsort",
        **QUOTED,
    ),
    Recipe(
        name="setwise-openai",
        source="ielab/llm-rankers, llmrankers/setwise.py: for OpenAI's models",
        kind="best",
        turns=(
            Turn(
                role="system",
                text="You are RankGPT, an intelligent assistant specialized in selecting the most relevant passage "
                "from a pool of passages based on their relevance to the query.",
            ),
            Turn(role="user", text=f"{_QUESTION}."),
        ),
        reads="choice",
        algorithm="setwise-heapsort",
        **QUOTED,
    ),
    Recipe(
        name="likelihood",
        source="ielab/llm-rankers, llmrankers/listwise.py: the labels of a setwise question order all passages at once",
        turns=(Turn(role="user", text=f"{_QUESTION}:"),),
        begun=PRIMED,
        labels=True,
        **QUOTED,
    ),
)
