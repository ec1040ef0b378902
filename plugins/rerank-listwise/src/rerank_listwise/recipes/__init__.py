"""Every known recipe, one module per family: this project's own, and those that plugins register."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from rerank import ModelRef, find_named, installed
from rerank_listwise.questions import Kind
from rerank_listwise.recipe import Recipe
from rerank_listwise.recipes import (
    first,
    groupwise,
    judge,
    lighton,
    pairwise,
    rank_llm,
    rankgpt,
    reasoning,
    setwise,
    tournament,
    zero_shot,
)

OWN: Final[tuple[Recipe, ...]] = (
    *rankgpt.RECIPES,
    *rank_llm.RECIPES,
    *first.RECIPES,
    *setwise.RECIPES,
    *pairwise.RECIPES,
    *tournament.RECIPES,
    *groupwise.RECIPES,
    *reasoning.RECIPES,
    *zero_shot.RECIPES,
    *lighton.RECIPES,
    *judge.RECIPES,
)
"""The first of each kind is that of models without training."""


@cache
def known() -> Mapping[str, Recipe]:
    """Every recipe by its name; a plugin cannot replace one of this project's."""
    recipes = {recipe.name: recipe for recipe in OWN}
    installed().collect_named("rerank_register_listwise_recipes", Recipe, recipes)
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


def default_for(kind: Kind) -> Recipe:
    """The recipe with which a model without training is asked a kind of question."""
    return next(recipe for recipe in OWN if recipe.kind == kind)
