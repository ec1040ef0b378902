"""A checkpoint's chat template as a piece of a recipe: rendered with marks in place of the texts, and then checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

from rerank import ModelLoadError, ModelRef


class CannotRenderError(ModelLoadError):
    """A chat template raised an exception."""


_MARK: Final = re.compile("\ue000([a-z]+)\ue001")
_AWKWARD: Final = " \n<{}>\\\\ \"a\" 'b' & é" * 50 + "\n"
"""A text that templates often change: spaces at both ends, quotes, marks of markup, and long."""


def has_chat_template(model: ModelRef) -> bool:
    """Whether a checkpoint has a chat template."""
    if "chat_template.jinja" in model.files:
        return True
    return "tokenizer_config.json" in model.files and bool(
        model.read_json("tokenizer_config.json").get("chat_template")
    )


def read_template(
    tokenizer: Any, model: ModelRef, turns: Sequence[tuple[str, str]], arguments: Mapping[str, Any]
) -> tuple[str, frozenset[str]]:
    """The chat template of a conversation, as text with the places of a recipe.

    Args:
        tokenizer: The checkpoint's tokenizer, of transformers.
        model: The model, for errors.
        turns: The role of each message, and the name of the place for its text.
        arguments: Passed to the template.

    Returns:
        The text, and the places of the messages around which the template removes white space.

    Raises:
        CannotRenderError: The template raises an exception.
        ModelLoadError: It changes messages otherwise, or does not show each exactly once.
    """

    def render(texts: Mapping[str, str]) -> str:
        messages = [{"role": role, "content": texts[place]} for role, place in turns]
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **arguments))
        except Exception as error:
            raise CannotRenderError(
                f"the chat template of {model.name} cannot be rendered ({type(error).__name__}: {error}): "
                "give recipe= the recipe that it was trained with"
            ) from error

    template = render({place: f"\ue000{place}\ue001" for _, place in turns})
    shown = _MARK.findall(template)
    if any(shown.count(place) != 1 for role, place in turns if role != "system"):
        raise ModelLoadError(
            f"the chat template of {model.name} does not show {' and '.join(place for _, place in turns)} once each: "
            "give recipe= the recipe that it was trained with"
        )
    awkward = {place: f"{_AWKWARD}{place}{_AWKWARD}" for _, place in turns}
    blank = {place: awkward[place] if role in ("system", "user") else "" for role, place in turns}
    rendered, rendered_blank = render(awkward), render(blank)
    for flags in product((False, True), repeat=len(turns)):
        stripped = frozenset(place for (_, place), flag in zip(turns, flags) if flag)
        if rendered == _fill(template, awkward, stripped) and rendered_blank == _fill(template, blank, stripped):
            return _MARK.sub(r"{\1}", template), stripped
    raise ModelLoadError(
        f"the chat template of {model.name} changes the texts that it frames, which a recipe cannot follow: "
        "give recipe= the recipe that it was trained with"
    )


def _fill(template: str, texts: Mapping[str, str], stripped: frozenset[str]) -> str:
    return _MARK.sub(lambda mark: texts[mark[1]].strip() if mark[1] in stripped else texts[mark[1]], template)
