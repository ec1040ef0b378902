"""Listwise, pairwise and setwise language-model reranking, through any chat API or a generator of another plugin.

Importing this imports no network library and nothing heavy.
"""

from rerank_listwise.generator import Answerer, Generator, TextMeasure, Writer
from rerank_listwise.questions import Answer, Asked, Question, Tally
from rerank_listwise.recipe import Completion, Example, Message, Prompt, Recipe, Turn

__all__ = [
    "Answer",
    "Answerer",
    "Asked",
    "Completion",
    "Example",
    "Generator",
    "Message",
    "Prompt",
    "Question",
    "Recipe",
    "Tally",
    "TextMeasure",
    "Turn",
    "Writer",
]
