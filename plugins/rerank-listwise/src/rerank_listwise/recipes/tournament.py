"""TourRank (arXiv 2406.11678): which few of a group of documents are the most relevant? Any chat model can be asked."""

from __future__ import annotations

from typing import Final

from rerank_listwise.recipe import Recipe, Turn

RECIPES: Final = (
    Recipe(
        name="tourrank",
        source="chenyiqun/TourRank, TourRank_multiprocessing.py",
        kind="select",
        turns=(
            Turn(
                role="system",
                text="You are an intelligent assistant that can compare multiple documents "
                "based on their relevancy to the given query.",
            ),
            Turn(
                role="user",
                text="I will provide you with the given query and {count} documents. \n"
                "Consider the content of all the documents comprehensively and select the {select} documents "
                "that are most relevant to the given query: {query}.",
            ),
            Turn(role="assistant", text="Okay, please provide the documents."),
            Turn(role="user", text="Document {number}: {passage}", each=True),
            Turn(role="assistant", text="Received Document {number}.", each=True),
            Turn(
                role="user",
                text="The Query is: {query}.\n"
                "Now, you must output the top {select} documents that are most relevant to the Query "
                "using the following format strictly, and nothing else. "
                "Don't output any explanation, just the following format:\n"
                "Document 3, ..., Document 1",
            ),
        ),
        algorithm="tournament",
    ),
)
