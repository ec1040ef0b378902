"""Where a model's recipe comes from: the user, the checkpoint itself, its name, or the backend's default."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rerank import InvalidOptionsError, ModelLoadError, ModelRef, read_data, read_tokenizer_config, saved_prompt
from rerank_llm.chat import CannotRenderError, has_chat_template, read_template
from rerank_llm.options import LlmOptions
from rerank_llm.recipe import PLACE, PLACES, Recipe
from rerank_llm.recipes import find, trained
from rerank_torch.modules import Module, read_modules

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """A recipe and where it came from.

    Args:
        recipe: The recipe.
        origin: Its origin, for people to read.
    """

    recipe: Recipe
    origin: str


def choose_recipe(model: ModelRef, options: LlmOptions, default: str) -> Source:
    """The recipe of a model.

    What the user gives comes first, then what the checkpoint carries, then what its name is known for; where the last
    two differ, a warning says so.

    Args:
        model: The model.
        options: ``recipe``, ``token_true``, ``token_false`` and ``inputs_template`` are read.
        default: The recipe's name if nothing else says how the model was trained.

    Raises:
        InvalidOptionsError: There is no recipe of the name that the user gives, or it has no use for another option.
        ModelLoadError: The checkpoint's chat template cannot be used.
    """
    chosen = _choose(model, options, default)
    recipe = _with_users_parts(chosen.recipe, options)
    if recipe.chat and has_chat_template(model):
        recipe = _in_chat(recipe, model, options)
    return Source(recipe, chosen.origin)


def _choose(model: ModelRef, options: LlmOptions, default: str) -> Source:
    if isinstance(options.recipe, Recipe):
        return Source(options.recipe, "the option recipe=")
    if options.recipe is not None:
        return Source(find(options.recipe), f"the option recipe={options.recipe!r}")
    named = trained(model)
    modules = read_modules(model)
    if score := next((module for module in modules if module.kind == "LogitScore"), None):
        tokenizer = _load_tokenizer(model, options)
        carried = _read_carried(model, tokenizer, modules[0], score)
        if named is None:
            return Source(carried, _CARRIED)
        if _meaning(carried, tokenizer) != _meaning(named, tokenizer):
            logger.warning(
                "%s carries a recipe of its own, which differs from %r, the one its name is known for: it is used, and "
                "recipe=%r takes the other",
                model.name,
                named.name,
                named.name,
            )
        published = ("temperature", "shift", "ids", "vocabulary", "max_length")
        return Source(carried.model_copy(update={field: getattr(named, field) for field in published}), _CARRIED)
    if named is not None:
        return Source(named, f"the name {model.name}")
    usual = find(default)
    if usual.has_verdicts and None in (options.inputs_template, options.token_true):
        logger.warning(
            "neither %s nor its name says how it was trained: it is prompted as %r; recipe= sets another",
            model.name,
            default,
        )
    return Source(usual, "the backend's default, since neither the checkpoint nor its name says more")


_CARRIED: Final = "the checkpoint itself (modules.json and its chat template)"


def _load_tokenizer(model: ModelRef, options: LlmOptions) -> Any:
    from rerank_torch.loading import load_tokenizer

    return load_tokenizer(model, options)


def _meaning(recipe: Recipe, tokenizer: Any) -> tuple[object, ...]:
    """A recipe's whole prompt and the ids of its verdicts, by which two are compared."""
    ids = [
        [verdict] if isinstance(verdict, int) else tokenizer.encode(verdict, add_special_tokens=False)
        for verdict in recipe.verdicts
    ]
    return "".join(recipe.choose_pieces(None)).replace("{instruction}", recipe.instruction), ids


def _with_users_parts(recipe: Recipe, options: LlmOptions) -> Recipe:
    """The recipe with the tokens and the template that the user sets in place of its own."""
    if (options.token_true, options.token_false, options.inputs_template) == (None, None, None):
        return recipe
    changed: dict[str, Any] = {}
    for field, option in (("true", "token_true"), ("false", "token_false")):
        if (token := getattr(options, option)) is None:
            continue
        if not recipe.has_verdicts:
            raise InvalidOptionsError(
                f"recipe {recipe.name!r} reads {recipe.formula}, so {option} has no effect: leave it out"
            )
        changed[field] = token
    if options.inputs_template is not None:
        changed |= {
            "pieces": (options.inputs_template.replace("{text}", "{document}"),),
            "instructed": None,
            "chat": False,
        }
    return read_data(Recipe, {**recipe.model_dump(), **changed}, "token_true, token_false and inputs_template")


def _read_carried(model: ModelRef, tokenizer: Any, transformer: Module, score: Module) -> Recipe:
    """The recipe that a checkpoint of sentence-transformers carries: a LogitScore module, and a chat template.

    Raises:
        ModelLoadError: Its chat template cannot be used with a query and a document, or its default prompt is absent.
    """
    instruction = saved_prompt(model)
    arguments = {"add_generation_prompt": False, **_template_arguments(transformer)}
    pair = [("query", "query"), ("document", "document")]
    piece, strip = read_template(tokenizer, model, pair, arguments)
    try:
        instructed, strip = read_template(tokenizer, model, [("system", "instruction"), *pair], arguments)
    except CannotRenderError:
        if instruction:
            raise
        instructed = piece  # it knows no system turn
    has_place = "{instruction}" in instructed
    true, longest = score.config.get("true_token_id"), read_tokenizer_config(model).get("model_max_length")
    if not isinstance(true, int):
        raise ModelLoadError(
            f"{score.path}/config.json of {model.name} has no true_token_id: fetch the checkpoint again, or give recipe="
        )
    return Recipe(
        name=f"carried by {model.name}",
        source="modules.json, 1_LogitScore/config.json and the chat template (sentence-transformers 6)",
        pieces=(piece,),
        instructed=(instructed,) if has_place else None,
        instruction=instruction.strip() if "instruction" in strip else instruction,
        true=true,
        false=score.config.get("false_token_id"),
        strip=tuple(place for place in PLACES if place in strip),
        max_length=int(min(longest, 8192)) if isinstance(longest, (int, float)) and longest >= 8 else 8192,
    )


def _template_arguments(transformer: Module) -> Mapping[str, Any]:
    """What sentence-transformers passes to the chat template: saved beside the Transformer."""
    kwargs = dict((transformer.config.get("processing_kwargs") or {}).get("chat_template") or {})
    kwargs.pop("restore_suffix", None)
    return kwargs


_ANSWERING: Final = {"add_generation_prompt": True, "enable_thinking": False}
"""What a chat template is asked: to stop where the model answers. Those that know no thinking ignore it."""


def _in_chat(recipe: Recipe, model: ModelRef, options: LlmOptions) -> Recipe:
    """The recipe's pieces as one user turn of the checkpoint's chat template, which says how a prompt begins."""
    framed, strips = read_template(_load_tokenizer(model, options), model, [("user", "turn")], _ANSWERING)
    before, after = framed.split("{turn}")

    def frame(pieces: tuple[str, ...]) -> tuple[str, ...]:
        turn = "".join(pieces)
        return (before + (turn.strip() if strips else turn) + after,)

    turn = "".join(recipe.pieces).strip()
    at_ends = {place[1] for place in PLACE.finditer(turn) if place.start() == 0 or place.end() == len(turn)}
    return recipe.model_copy(
        update={
            "pieces": frame(recipe.pieces),
            "instructed": recipe.instructed and frame(recipe.instructed),
            "begins": False,
            "strip": tuple(place for place in PLACES if place in recipe.strip or (strips and place in at_ends)),
        }
    )
