"""Where a model's recipe comes from: the user, the checkpoint itself, its name, or the backend's default."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rerank import ModelLoadError, ModelRef
from rerank_llm.options import LlmOptions
from rerank_llm.recipe import Recipe
from rerank_llm.recipes import find, trained
from rerank_torch.modules import Module, read_modules

logger = logging.getLogger(__name__)

_MARKS: Final = {"instruction": "\ue000", "query": "\ue001", "document": "\ue002"}
"""Stand for the texts while a chat template is rendered; private-use characters, which no template contains."""


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
        InvalidOptionsError: There is no recipe of the name that the user gives.
        ModelLoadError: The checkpoint's chat template cannot be rendered.
    """
    chosen = _choose(model, options, default)
    recipe = _with_users_parts(chosen.recipe, options)
    if recipe.chat:
        recipe = _in_chat(recipe, model, options)
    return Source(recipe, chosen.origin)


def _choose(model: ModelRef, options: LlmOptions, default: str) -> Source:
    if isinstance(options.recipe, Recipe):
        return Source(options.recipe, "the option recipe=")
    if options.recipe is not None:
        return Source(find(options.recipe), f"the option recipe={options.recipe!r}")
    named = trained(model.name)
    if carried := read_carried(model, options):
        if named is not None and _sample(carried) != _sample(named):
            logger.warning(
                "%s carries a recipe of its own, which differs from %r, the one its name is known for: it is used, and "
                "recipe=%r takes the other",
                model.name,
                named.name,
                named.name,
            )
        if named is not None:
            published = ("temperature", "shift", "ids", "vocabulary", "max_length")
            carried = carried.model_copy(update={field: getattr(named, field) for field in published})
        return Source(carried, "the checkpoint itself (modules.json and its chat template)")
    if named is not None:
        return Source(named, f"the name {model.name}")
    return Source(find(default), "the backend's default, since neither the checkpoint nor its name says more")


def _with_users_parts(recipe: Recipe, options: LlmOptions) -> Recipe:
    """The recipe with the tokens and the template that the user sets in place of its own."""
    changed: dict[str, Any] = {}
    if options.token_true is not None:
        changed["true"] = options.token_true
    if options.token_false is not None:
        changed["false"] = options.token_false
    if options.inputs_template is not None:
        changed |= {"pieces": (options.inputs_template.replace("{text}", "{document}"),), "instructed": None}
    return Recipe.model_validate({**recipe.model_dump(), **changed}) if changed else recipe


def read_carried(model: ModelRef, options: LlmOptions) -> Recipe | None:
    """The recipe that a checkpoint of sentence-transformers carries: a LogitScore module, and a chat template.

    Raises:
        ModelLoadError: Its chat template cannot be rendered with a query and a document.
    """
    modules = read_modules(model)
    score = next((module for module in modules if module.kind == "LogitScore"), None)
    if score is None:
        return None
    config = model.read_json(_ST_CONFIG) if _ST_CONFIG in model.files else {}
    prompts = config.get("prompts") or {}
    instruction = str(prompts.get(config.get("default_prompt_name") or "", ""))
    template_arguments = _template_arguments(modules[0])
    pieces = _render_pair(model, options, template_arguments, instructed=False)
    if pieces.count("{query}") != 1 or pieces.count("{document}") != 1:
        raise ModelLoadError(
            f"the chat template of {model.name} does not show query and document once each: "
            "give recipe= the recipe that it was trained with"
        )
    instructed = _render_pair(model, options, template_arguments, instructed=True)
    has_place = "{instruction}" in instructed
    return Recipe(
        name=f"carried by {model.name}",
        source="modules.json, 1_LogitScore/config.json and the chat template (sentence-transformers 6)",
        pieces=(instructed if instruction and has_place else pieces,),
        instructed=(instructed,) if has_place else None,
        instruction=instruction,
        true=int(score.config["true_token_id"]),
        false=score.config.get("false_token_id"),
        max_length=8192,
    )


_ST_CONFIG: Final = "config_sentence_transformers.json"


def _template_arguments(transformer: Module) -> Mapping[str, Any]:
    """What sentence-transformers passes to the chat template: saved beside the Transformer."""
    kwargs = dict((transformer.config.get("processing_kwargs") or {}).get("chat_template") or {})
    kwargs.pop("restore_suffix", None)
    return kwargs


def _render_pair(model: ModelRef, options: LlmOptions, arguments: Mapping[str, Any], *, instructed: bool) -> str:
    """The chat template with places for the texts, as one piece."""
    messages = [{"role": role, "content": _MARKS[role]} for role in ("query", "document")]
    if instructed:
        messages.insert(0, {"role": "system", "content": _MARKS["instruction"]})
    return _render(model, options, messages, {"add_generation_prompt": False, **arguments})


def _in_chat(recipe: Recipe, model: ModelRef, options: LlmOptions) -> Recipe:
    """The recipe's pieces as one user turn of the checkpoint's chat template, if it has one."""
    if not _has_chat_template(model):
        return recipe
    framed = _render(model, options, [{"role": "user", "content": "\ue003"}], {"add_generation_prompt": True})
    before, after = framed.split("\ue003")

    def frame(pieces: tuple[str, ...]) -> tuple[str, ...]:
        whole = "".join(pieces)
        return (before + whole + after,)

    return recipe.model_copy(
        update={"pieces": frame(recipe.pieces), "instructed": recipe.instructed and frame(recipe.instructed)}
    )


def _has_chat_template(model: ModelRef) -> bool:
    if "chat_template.jinja" in model.files:
        return True
    return "tokenizer_config.json" in model.files and bool(
        model.read_json("tokenizer_config.json").get("chat_template")
    )


def _render(model: ModelRef, options: LlmOptions, messages: list[dict[str, str]], arguments: Mapping[str, Any]) -> str:
    """A chat template as text, with its marks turned into the places of a recipe."""
    from rerank_torch.loading import load_tokenizer

    try:
        text = load_tokenizer(model, options).apply_chat_template(messages, tokenize=False, **arguments)
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"the chat template of {model.name} cannot be rendered ({type(error).__name__}: {error}): "
            "give recipe= the recipe that it was trained with"
        ) from error
    for place, mark in _MARKS.items():
        text = text.replace(mark, f"{{{place}}}")
    return str(text)


def _sample(recipe: Recipe) -> str:
    """The whole prompt of a recipe, by which two are compared."""
    return "".join(recipe.pieces).replace("{instruction}", recipe.instruction)
