"""BAAI's decoder rerankers: Gemma, MiniCPM with a head per layer, and Gemma 2 with compressed passages.

FlagEmbedding 1.4.2 tokenises query, line break, passage and task apart, cuts the passage only, and appends the task last.
"""

from __future__ import annotations

from typing import Any, Final

from rerank_llm.recipe import Recipe

_TASK: Final = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
_LAYOUT: Final[dict[str, Any]] = {
    "source": "FlagEmbedding 1.4.2, inference/reranker/decoder_only",
    "pieces": ("A: {query}", "\n", "B: {document}", "\n", "{instruction}"),
    "begins": True,
    "counts": "passage",
    "max_length": 1024,
}

RECIPES: Final = (
    Recipe(
        name="bge-gemma",
        instruction=_TASK,
        true="Yes",
        models=("BAAI/bge-reranker-v2-gemma",),
        **_LAYOUT,
    ),
    Recipe(
        name="bge-layerwise",
        kind="layerwise",
        instruction=_TASK,
        models=("BAAI/bge-reranker-v2-minicpm-layerwise",),
        **_LAYOUT,
    ),
    Recipe(
        name="bge-lightweight",
        kind="lightweight",
        instruction="Predict whether passage B contains an answer to query A.",
        models=("BAAI/bge-reranker-v2.5-gemma2-lightweight", "BAAI/Matroyshka-ReRanker-*"),
        **_LAYOUT,
    ),
)
