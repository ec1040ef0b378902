"""LightOn-rerank LW: small models that order windows of four."""

from __future__ import annotations

from typing import Any, Final

from rerank_listwise.recipe import Recipe, Turn

_LIGHTON: Final[dict[str, Any]] = {
    "turns": (
        Turn(
            role="user",
            text="Query: {query}\n\nRank these passages from most to least relevant:\n{passages}\n\nRanking:",
        ),
    ),
    "passage": "[{number}]: {passage}",
    "window_size": 4,
    "stride": 2,
    "answer_tokens": 30,
}

RECIPES: Final = (
    Recipe(
        name="lighton-lw",
        source="mteb, models/model_implementations/lighton_rerank_models.py",
        models=("lightonai/LightOn-rerank-LW-0.8B", "lightonai/LightOn-rerank-LW-2B"),
        **_LIGHTON,
    ),
    Recipe(
        name="lighton-lw-4b",
        source="mteb, models/model_implementations/lighton_rerank_models.py: its thoughts are over before they begin",
        begun="<think>\n\n</think>\n\n",
        models=("lightonai/LightOn-rerank-LW-4B",),
        **_LIGHTON,
    ),
)
