"""Every known recipe, one module per family: this project's own, and those that plugins register."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from rerank import ModelRef, find_named, installed
from rerank_llm.recipe import Recipe
from rerank_llm.recipes import bge, contextual, mixedbread, nvidia, qwen, rank1, t5, zero_shot, zeroentropy

OWN: Final[tuple[Recipe, ...]] = (
    *t5.RECIPES,
    *bge.RECIPES,
    *qwen.RECIPES,
    *mixedbread.RECIPES,
    *contextual.RECIPES,
    *zeroentropy.RECIPES,
    *nvidia.RECIPES,
    *rank1.RECIPES,
    *zero_shot.RECIPES,
)


@cache
def known() -> Mapping[str, Recipe]:
    """Every recipe by its name; a plugin cannot replace one of this project's."""
    recipes = {recipe.name: recipe for recipe in OWN}
    installed().collect_named("rerank_register_recipes", Recipe, recipes)
    return recipes


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        InvalidOptionsError: There is none; the message suggests the closest name.
    """
    return find_named(name, known(), "recipe")


def trained(model: ModelRef) -> Recipe | None:
    """The recipe that a model was trained with, if its name on the hub is known."""
    return next((recipe for recipe in known().values() if model.is_one_of(recipe.models)), None)
