"""The options of the generator ``torch``, and which models it runs; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import Field

from rerank import Claim, Confidence, ModelLoadError, ModelRef, Reload
from rerank_listwise.generators.endpoints import is_remote
from rerank_llm.options import LoadingOptions

_HEADS: Final = ("ForCausalLM", "LMHeadModel")


class CausalWriterOptions(LoadingOptions):
    """Options of the generator ``torch``.

    ``max_length`` counts the prompt and its answer together; None is the model's context.

    Args:
        chat_template_kwargs: Further arguments of the checkpoint's chat template, such as ``enable_thinking``.
    """

    chat_template_kwargs: Reload[Mapping[str, Any]] = Field(default_factory=dict)


def writing_head(config: Mapping[str, Any]) -> str | None:
    """The architecture that writes text, by a checkpoint's ``config.json``; None if it states none.

    Models that also read images count: their part that reads text writes too.
    """
    stated: Iterable[Any] = config.get("architectures") or ()
    heads = (*_HEADS, "ForConditionalGeneration") if "vision_config" in config else _HEADS
    return next((name for name in map(str, stated) if name.endswith(heads)), None)


def claim(model: ModelRef, options: Any) -> Claim:
    """Claim models that were trained with a recipe by their names, and any other causal language model."""
    from rerank_listwise.recipes import trained

    if model.gguf_file is not None:
        return Claim(Confidence.NONE, "a GGUF file")
    if is_remote(model, options):
        return Claim(Confidence.NONE, "a model behind a chat endpoint")
    recipe = trained(model)
    if recipe is not None and not model.is_local:
        return Claim(Confidence.CERTAIN, f"the recipe {recipe.name} is known for its name")
    try:
        head = writing_head(model.config)
    except ModelLoadError as error:
        return Claim(Confidence.NONE, str(error))
    if head is None:
        return Claim(Confidence.NONE, "no causal language model")
    if recipe is not None:
        return Claim(Confidence.CERTAIN, f"{head}, and the recipe {recipe.name} is known for its name")
    return Claim(Confidence.LIKELY, f"{head}, a causal language model")
