"""Every known recipe, one module per family: this project's own, and those that plugins register."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Final

from rerank import InvalidOptionsError, ModelRef, PluginError, installed
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

    def add(recipe: object, distribution: str) -> None:
        if not isinstance(recipe, Recipe):
            raise PluginError(f"{recipe!r} is not a rerank_listwise.Recipe: yield Recipe(...) from the hook")
        if recipe.name in recipes:
            raise PluginError(f"the recipe {recipe.name!r} of {distribution} exists already: give it another name")
        recipes[recipe.name] = recipe

    installed().collect("rerank_register_listwise_recipes", add)
    return recipes


def find(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        InvalidOptionsError: There is none; the message suggests the closest name.
    """
    if name in known():
        return known()[name]
    near = difflib.get_close_matches(name, known(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known())}, or give a file of your own"
    raise InvalidOptionsError(f"there is no recipe {name!r}: {hint}")


def trained(model: ModelRef) -> Recipe | None:
    """The recipe that a model was trained with, if its name on the hub is known."""
    return next((recipe for recipe in known().values() if model.is_one_of(recipe.models)), None)


def default_for(kind: Kind) -> Recipe:
    """The recipe with which a model without training is asked a kind of question."""
    return next(recipe for recipe in OWN if recipe.kind == kind)
