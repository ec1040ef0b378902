"""NVIDIA's rerankers on Llama, without the causal mask."""

from __future__ import annotations

from typing import Final

from rerank_llm.recipe import Recipe

RECIPES: Final = (
    Recipe(
        name="nemotron",
        source="vllm-project/vllm, examples/pooling/score/template/nemotron-rerank.jinja",
        kind="bidirectional",
        pieces=("question:{query} \n \n passage:{document}",),
        begins=True,
        max_length=8192,
        models=("nvidia/llama-nemotron-rerank-1b-v2", "nvidia/llama-3.2-nv-rerankqa-1b-v2"),
    ),
)
