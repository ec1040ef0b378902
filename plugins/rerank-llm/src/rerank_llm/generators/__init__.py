"""What rerank-llm adds to rerank-listwise: models on this machine, and those of litellm. Imports nothing heavy."""

from __future__ import annotations

from typing import Final

from rerank_listwise import Generator
from rerank_llm.generators import causal, duo, fid, gguf, jina, litellm

GENERATORS: Final[tuple[Generator, ...]] = (
    *fid.GENERATORS,
    duo.GENERATOR,
    jina.GENERATOR,
    gguf.GENERATOR,
    causal.GENERATOR,
    litellm.GENERATOR,
)
