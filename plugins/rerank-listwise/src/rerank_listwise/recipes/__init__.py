"""Every known recipe, one module per family: this project's own, and those that plugins register."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from rerank import InvalidOptionsError, ModelRef, find_named, installed
from rerank_listwise.derive import native_kind
from rerank_listwise.options import FilterOptions, PromptOptions
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


def own_recipe(model: ModelRef, options: PromptOptions) -> Recipe | None:
    """The recipe that the user gives, or that the model was trained with; None if there is neither.

    Raises:
        InvalidOptionsError: There is no recipe of the name that the user gives.
    """
    if isinstance(options.recipe, Recipe):
        return options.recipe
    return trained(model) if options.recipe is None else find(options.recipe)


def recipe_for(own: Recipe | None, kind: Kind, options: PromptOptions) -> Recipe:
    """The recipe with which a model is asked, whatever it is about: its own if that says as much, else the usual one.

    Args:
        own: The recipe that the user gives, or that the model was trained with.
        kind: The kind of question that the algorithm asks.
        options: The options of the call.

    Raises:
        InvalidOptionsError: The user's recipe does not say as much, or reads no labels.
    """
    native = None if own is None else native_kind(kind, {own.kind})
    if own is not None and native is None and options.recipe is not None:
        raise InvalidOptionsError(
            f"recipe {own.name!r} asks a model to {own.kind} passages, which does not {kind} them: leave recipe= out, or "
            "choose another one or another algorithm"
        )
    recipe = own if native is not None else None
    if isinstance(options, FilterOptions):
        return recipe or find(_judging(options))
    answers = getattr(options, "answers", None)
    if answers == "labels" and (recipe is None or not recipe.labels):
        if recipe is not None:
            raise InvalidOptionsError(
                f"recipe {recipe.name!r} reads its answer as text: leave answers='labels' out, or choose another recipe="
            )
        if kind not in _LABELLED:
            raise InvalidOptionsError(
                f"answers='labels' orders passages, names the best or compares two, and this algorithm asks to {kind}: leave "
                "it out, or choose algorithm='sliding-window', 'setwise-heapsort' or 'pairwise-heapsort'"
            )
        return find(_LABELLED[kind])
    recipe = recipe or default_for(kind)
    if answers == "text" and recipe.labels:
        return recipe.model_copy(update={"labels": False, "begun": ""})
    return recipe


_LABELLED: Final[Mapping[Kind, str]] = {"order": "likelihood", "best": "setwise-labels", "compare": "pairwise-labels"}
"""The usual recipe of each kind that reads labels."""


def _judging(options: FilterOptions) -> str:
    """The usual recipe of a filter."""
    if not options.explain:
        return "judge-briefly"
    return "judge" if options.structured is False else "judge-in-json"
