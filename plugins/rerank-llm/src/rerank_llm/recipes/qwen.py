"""Qwen's rerankers: Qwen3-Reranker, and the prompt of Qwen3-VL-Reranker for text."""

from __future__ import annotations

from typing import Any, Final

from rerank_llm.recipe import Recipe

_SYSTEM: Final = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
_VERDICTS: Final[dict[str, Any]] = {
    "true": "yes",
    "false": "no",
    "ids": {"yes": 9693, "no": 2152},
    "vocabulary": 151_669,
}

RECIPES: Final = (
    Recipe(
        name="qwen3",
        source="QwenLM/Qwen3-Embedding, README.md and examples/qwen3_reranker_transformers.py",
        pieces=(
            _SYSTEM,
            "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        instruction="Given a web search query, retrieve relevant passages that answer the query",
        max_length=8192,
        models=("Qwen/Qwen3-Reranker-*",),
        **_VERDICTS,
    ),
    Recipe(
        name="qwen3-vl",
        source="QwenLM/Qwen3-VL-Embedding, src/models/qwen3_vl_reranker.py",
        pieces=(
            _SYSTEM + "<Instruct>: {instruction}<Query>:{query}\n<Document>:{document}",
            "<|im_end|>\n<|im_start|>assistant\n",
        ),
        instruction="Given a search query, retrieve relevant candidates that answer the query.",
        empty="NULL",
        max_length=8192,
        models=("Qwen/Qwen3-VL-Reranker-*",),
        **_VERDICTS,
    ),
)
