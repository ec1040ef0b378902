"""Mixedbread's second generation, on Qwen 2.5."""

from __future__ import annotations

from typing import Any, Final

from rerank_llm.recipe import Recipe

_SYSTEM: Final = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)
_TASK: Final = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
_REST: Final = ("\n", "document: {document}", "\n", _TASK, "<|im_end|>\n<|im_start|>assistant\n")
_RECIPE: Final[dict[str, Any]] = {
    "source": "mxbai-rerank 0.1.6, mxbai_rerank_v2.py",
    "pieces": (_SYSTEM, "query: {query}", *_REST),
    "instructed": (_SYSTEM, "instruction: {instruction}\nquery: {query}", *_REST),
    "true": "1",
    "false": "0",
    "max_length": 8192,
    "counts": "texts",
}

RECIPES: Final = (
    Recipe(name="mxbai-v2-base", shift=4.5, models=("mixedbread-ai/mxbai-rerank-base-v2",), **_RECIPE),
    Recipe(name="mxbai-v2", shift=6.0, models=("mixedbread-ai/mxbai-rerank-large-v2",), **_RECIPE),
)
