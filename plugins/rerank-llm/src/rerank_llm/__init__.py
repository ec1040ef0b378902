"""Pointwise language-model rerankers, on torch: T5, causal language models, and models with a head per layer.

`Recipe` describes how a family of models is prompted and scored; `rerank_llm.hookspecs` shows how a plugin adds one.
"""

from rerank_llm.recipe import Recipe

__all__ = ["Recipe"]
