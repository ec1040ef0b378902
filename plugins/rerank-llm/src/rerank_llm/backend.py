"""The backends of this distribution, one per kind of model, and which models each claims."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rerank import (
    Alias,
    Backend,
    Claim,
    Confidence,
    InvalidOptionsError,
    ModelRef,
    Options,
    Registry,
    Scorer,
    hookimpl,
)
from rerank_listwise import Generator
from rerank_llm import hookspecs
from rerank_llm.generators import GENERATORS
from rerank_llm.options import CausalOptions, LayerwiseOptions, LightweightOptions, LlmOptions
from rerank_llm.prompt import Prompt
from rerank_llm.recipe import Kind
from rerank_llm.recipes import find, trained
from rerank_llm.source import Source, choose_recipe
from rerank_torch import find_accelerators
from rerank_torch.modules import read_modules

if TYPE_CHECKING:
    from rerank_llm.scorer import PromptScorer

_FITTING: Final[Mapping[Kind, tuple[Kind, ...]]] = {
    "t5": ("t5", "t5-likelihood"),
    "causal": ("causal", "likelihood", "reasoning", "bidirectional"),
    "layerwise": ("layerwise",),
    "lightweight": ("lightweight",),
}
"""The kinds of recipes that a backend runs, by that of its default."""

_T5_HEADS: Final = ("T5ForConditionalGeneration", "MT5ForConditionalGeneration")


def load(model: ModelRef, options: LlmOptions, *, default: str) -> Scorer:
    """Load a checkpoint with the recipe it was trained with.

    Raises:
        ModelLoadError: The checkpoint cannot be found, read or trusted, or lacks the recipe's verdicts.
        InvalidOptionsError: A device is not available, or there is no such recipe.
    """
    model.check_files()
    from rerank_llm.layered import Layerwise, Lightweight
    from rerank_llm.likelihood import CausalLikelihood, T5Likelihood
    from rerank_llm.pointwise import Bidirectional, Pointwise
    from rerank_llm.reasoning import Reasoning

    recipe = choose_fitting(model, options, default).recipe
    scorers: dict[Kind, type[PromptScorer]] = {
        "causal": Pointwise,
        "bidirectional": Bidirectional,
        "reasoning": Reasoning,
        "t5": Pointwise,
        "likelihood": CausalLikelihood,
        "t5-likelihood": T5Likelihood,
        "layerwise": Layerwise,
        "lightweight": Lightweight,
    }
    return scorers[recipe.kind](model, options, recipe)


def choose_fitting(model: ModelRef, options: LlmOptions, default: str) -> Source:
    """The recipe of a model, which must be of a kind that the backend runs.

    Raises:
        ModelLoadError, InvalidOptionsError: As for `choose_recipe`, or it is of another kind.
    """
    source = choose_recipe(model, options, default)
    if source.recipe.kind not in (fitting := _FITTING[find(default).kind]):
        raise InvalidOptionsError(
            f"recipe {source.recipe.name!r} is of kind {source.recipe.kind}, and this backend runs "
            f"{', '.join(fitting)}: choose another recipe or another backend"
        )
    return source


def describe(model: ModelRef, options: Options, *, default: str) -> Iterator[str]:
    """The recipe, where it comes from, and the literal prompt for a sample pair, in its pieces."""
    assert isinstance(options, LlmOptions)
    source = choose_fitting(model, options, default)
    recipe = source.recipe
    yield f"recipe: {recipe.name}, from {source.origin}"
    yield f"source: {recipe.source}"
    yield f"score: {recipe.formula}"
    counted = {"prompt": "the prompt", "texts": "query and document", "passage": "the passage"}[recipe.counts]
    prompt = Prompt.load(recipe, model, options, model.config)
    yield f"limit: {prompt.max_length(options)} tokens, which bound {counted}"
    yield "the prompt for a sample pair, in the pieces that are tokenised one by one:"
    for piece in prompt.texts("what is a panda?", "The giant panda is a bear of China.", options.instruction):
        yield f"  {json.dumps(piece, ensure_ascii=False)}"


def claim_t5(model: ModelRef) -> Claim:
    """Claim T5 and mT5 with their language-model head."""
    if named := _claim_by_name(model, _FITTING["t5"]):
        return named
    head = next((name for name in _architectures(model) if name in _T5_HEADS), None)
    if head is None:
        return Claim(Confidence.NONE, "no T5 or mT5 with a language-model head")
    return Claim(Confidence.LIKELY, f"{head}, and no recipe is known for its name: monoT5's is the default")


def claim_causal(model: ModelRef) -> Claim:
    """Claim causal language models with a recipe; any other only as possible, without training."""
    named = _claim_by_name(model, _FITTING["causal"])
    if named is not None and not model.is_local:
        return named
    head = next((name for name in _architectures(model) if name.endswith("ForCausalLM")), None)
    if any(module.kind == "LogitScore" for module in read_modules(model)):
        return Claim(Confidence.CERTAIN, "the checkpoint carries its recipe: a LogitScore module")
    if named is not None:
        return named
    if head is None:
        return Claim(Confidence.NONE, "no causal language model")
    return Claim(Confidence.LIKELY, f"{head}, and no recipe is known for its name: it is asked without training")


def claim_layered(model: ModelRef, *, kind: Kind, prefix: str) -> Claim:
    """Claim BAAI's models with a head per layer, by the beginning of their architecture's name."""
    if named := _claim_by_name(model, (kind,)):
        return named
    found = next((name for name in _architectures(model) if name.startswith(prefix)), None)
    if found is None:
        return Claim(Confidence.NONE, f"no {prefix}… architecture")
    return Claim(Confidence.CERTAIN, f"{found} has heads after several layers")


def _claim_by_name(model: ModelRef, kinds: tuple[Kind, ...]) -> Claim | None:
    recipe = trained(model)
    if recipe is None or recipe.kind not in kinds or model.gguf_file is not None:
        return None
    reason = f"the recipe {recipe.name} is known for its name"
    if not model.is_local:
        return Claim(Confidence.CERTAIN, reason)
    converted = any(name.endswith("ForSequenceClassification") for name in _architectures(model))
    return None if converted and recipe.kind != "bidirectional" else Claim(Confidence.LIKELY, reason)


def _architectures(model: ModelRef) -> list[str]:
    return [str(name) for name in model.config.get("architectures") or ()]


_T5: Final = {  # AnswerDotAI rerankers 0.10.0
    "en": Alias("unicamp-dl/InRanker-base"),
    "pt": Alias("unicamp-dl/ptt5-base-pt-msmarco-100k-v2"),
    "other": Alias("unicamp-dl/mt5-base-mmarco-v2"),
}


def _backend(name: str, summary: str, default: str, options: type[LlmOptions], **more: Any) -> Backend:
    return Backend(
        name=name,
        summary=summary,
        load=partial(load, default=default),
        describe=partial(describe, default=default),
        options=options,
        devices=find_accelerators,
        **more,
    )


@hookimpl
def rerank_add_hooks(registry: Registry) -> None:
    """Let other plugins register recipes."""
    registry.add_hooks(hookspecs)


@hookimpl
def rerank_register_generators() -> Iterable[Generator]:
    """Describe the models that rerank-listwise asks about several passages at once."""
    return GENERATORS


@hookimpl
def rerank_register_backends() -> Iterator[Backend]:
    """Describe the backends of this distribution."""
    yield _backend(
        "t5",
        "T5 rerankers (monoT5, InRanker, RankT5, UPR …) on torch",
        "monot5",
        LlmOptions,
        claim=claim_t5,
        aliases={"t5": _T5},
    )
    yield _backend(
        "llm-pointwise",
        "causal language models that judge one document at a time (Qwen3-Reranker, bge-gemma, zero-shot …) on torch",
        "yes-no",
        CausalOptions,
        claim=claim_causal,
        aliases={
            "llm-pointwise": {"other": Alias("Qwen/Qwen3-Reranker-0.6B")},
            "mxbaiv2": {"other": Alias("mixedbread-ai/mxbai-rerank-base-v2")},
        },
    )
    yield _backend(
        "llm-layerwise",
        "MiniCPM with a head per layer (bge-reranker-v2-minicpm-layerwise) on torch",
        "bge-layerwise",
        LayerwiseOptions,
        claim=partial(claim_layered, kind="layerwise", prefix="LayerWiseMiniCPM"),
        aliases={"llm-layerwise": {"other": Alias("BAAI/bge-reranker-v2-minicpm-layerwise")}},
    )
    yield _backend(
        "llm-lightweight",
        "Gemma 2 with compressed passages (bge-reranker-v2.5-gemma2-lightweight) on torch",
        "bge-lightweight",
        LightweightOptions,
        claim=partial(claim_layered, kind="lightweight", prefix="CostWise"),
        aliases={"llm-lightweight": {"other": Alias("BAAI/bge-reranker-v2.5-gemma2-lightweight")}},
    )
