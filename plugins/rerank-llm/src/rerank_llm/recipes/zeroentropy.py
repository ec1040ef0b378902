"""ZeroEntropy's rerankers: the query is the system's turn, the document the user's."""

from __future__ import annotations

from typing import Any, Final

from rerank_llm.recipe import Recipe

_DOCUMENT: Final = "<|im_start|>user\n{document}<|im_end|>\n<|im_start|>assistant\n"
_RECIPE: Final[dict[str, Any]] = {
    "source": "vllm-project/vllm, examples/pooling/score/template/zerank2.jinja; cohere-ai/rcp-ndcg, recipes/zerank",
    "pieces": ("<|im_start|>system\n{query}<|im_end|>\n" + _DOCUMENT,),
    "instructed": (
        "<|im_start|>system\n<query>{query}</query>\n<instruction>{instruction}</instruction><|im_end|>\n" + _DOCUMENT,
    ),
    "true": "Yes",
    "ids": {"Yes": 9454},
    "vocabulary": 151_669,
    "strip": ("query", "document"),
    "temperature": 5.0,
    "max_length": 8192,
}

RECIPES: Final = (Recipe(name="zerank", models=("zeroentropy/zerank-*",), **_RECIPE),)
