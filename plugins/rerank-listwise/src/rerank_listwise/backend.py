"""The backends of this distribution, ``llm-listwise`` and ``llm-filter``, and what runs their models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

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
from rerank_listwise import hookspecs
from rerank_listwise.generator import Answerer, Generator, RemoteWriter
from rerank_listwise.generators.endpoints import find_endpoint
from rerank_listwise.generators.options import ChatOptions
from rerank_listwise.options import FilterOptions, ListwiseOptions, PromptOptions
from rerank_listwise.recipe import Recipe


def claim_chat(model: ModelRef, options: Any) -> Claim:
    """Claim what the options or the name put behind a chat endpoint."""
    if options.address is not None or options.provider is not None or model.api_provider is not None:
        return Claim(Confidence.CERTAIN, "an address or a provider was given")
    if model.is_local or model.gguf_file is not None:
        return Claim(Confidence.NONE, "a model on this machine")
    endpoint, _ = find_endpoint(model.name, None)
    if endpoint is not None:
        return Claim(Confidence.CERTAIN, f"its name is that of a model of {endpoint.name}")
    return Claim(Confidence.NONE, "its name says no provider: give base_url= or provider=")


def load_chat(model: ModelRef, options: Any) -> RemoteWriter:
    """A model behind a chat endpoint.

    Raises:
        AuthenticationError: The endpoint needs a key and there is none.
        InvalidOptionsError: Nothing says where the model is.
    """
    from rerank_listwise.generators.chat import ChatWriter

    return ChatWriter(model, options)


CHAT: Final = Generator(
    name="chat",
    summary="any endpoint that speaks OpenAI's chat API",
    claim=claim_chat,
    options=ChatOptions,
    load=load_chat,
)


class Generators:
    """The generators of this process, and the options of a backend that runs any of them.

    Args:
        registry: Where plugins offer more generators.
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self.known: dict[str, Generator] = {CHAT.name: CHAT}
        if registry is not None:
            registry.collect_named("rerank_register_generators", Generator, self.known)

    def options(self, own: type[PromptOptions]) -> type[Options]:
        """A backend's own options and those of every generator, in one class."""
        bases = dict.fromkeys((own, *(generator.options for generator in self.known.values())))
        minimal = [base for base in bases if not any(base is not other and issubclass(other, base) for other in bases)]
        return type(own.__name__, tuple(minimal), {"__module__": own.__module__, "__doc__": own.__doc__})

    def choose(self, model: ModelRef, options: Any, own: type[PromptOptions]) -> Generator:
        """What runs a model: the generator that the user names, else the one with the highest claim.

        Raises:
            InvalidOptionsError: There is no such generator, none runs the model, or the one that does lacks an option.
        """
        if options.generator is not None:
            if options.generator not in self.known:
                raise InvalidOptionsError(
                    f"there is no generator {options.generator!r}: choose one of {', '.join(self.known)}{_MORE}"
                )
            chosen = self.known[options.generator]
        else:
            claims = {name: generator.claim(model, options) for name, generator in self.known.items()}
            name = max(claims, key=lambda name: claims[name].confidence)
            if claims[name].confidence < Confidence.LIKELY:
                reasons = "; ".join(f"{name}: {claim.reason}" for name, claim in claims.items())
                raise InvalidOptionsError(
                    f"nothing runs {model.name!r} as a language model ({reasons}): give generator=, base_url= or "
                    f"provider={_MORE if len(self.known) == 1 else ''}"
                )
            chosen = self.known[name]
        foreign = sorted(options.model_fields_set - own.model_fields.keys() - chosen.options.model_fields.keys())
        if foreign:
            owners = [g.name for g in self.known.values() if foreign[0] in g.options.model_fields]
            raise InvalidOptionsError(
                f"the generator {chosen.name!r}, which runs {model.name!r}, has no option {foreign[0]!r}: leave it out, or "
                f"choose generator={owners[0]!r}"
            )
        return chosen


_MORE: Final = ", or pip install rerank-llm, which runs models on this machine"


def load(model: ModelRef, options: Any, *, generators: Generators, own: type[PromptOptions]) -> Scorer:
    """Load a model with the generator that runs it, and the recipe that it was trained with.

    Raises:
        ModelLoadError: The checkpoint cannot be found, read or trusted.
        InvalidOptionsError: Nothing runs the model, or an option has no meaning for what does.
        AuthenticationError: An endpoint needs a key and there is none.
    """
    from rerank_listwise.scorer import AnswererAsker, LocalScorer, RemoteScorer, WriterAsker

    chosen = generators.choose(model, options, own)
    recipe = own_recipe(model, options)
    loaded = chosen.load(model, options)
    if isinstance(loaded, Answerer):
        return LocalScorer(AnswererAsker(loaded), lambda asked, _: loaded.answer(asked), loaded.close)
    asker = WriterAsker(loaded, partial(choose_recipe, recipe), recipe)
    if isinstance(loaded, RemoteWriter):
        return RemoteScorer(loaded, asker)
    return LocalScorer(asker, loaded.write, loaded.close)


def own_recipe(model: ModelRef, options: Any) -> Recipe | None:
    """The recipe that the user gives, or that the model was trained with; None if there is neither.

    Raises:
        InvalidOptionsError: There is no recipe of the name that the user gives.
    """
    from rerank_listwise.recipes import find, trained

    if isinstance(options.recipe, Recipe):
        return options.recipe
    return trained(model) if options.recipe is None else find(options.recipe)


def choose_recipe(own: Recipe | None, kind: Any, options: Any) -> Recipe:
    """The recipe for a kind of question: the model's own if it asks that, else the usual one.

    Raises:
        InvalidOptionsError: The recipe reads no labels.
    """
    from rerank_listwise.recipes import default_for, find

    recipe = own if own is not None and own.kind == kind else None
    if isinstance(options, FilterOptions):
        if recipe is not None:
            return recipe
        name = "judge-briefly" if not options.explain else "judge" if options.structured is False else "judge-in-json"
        return find(name)
    if options.answers == "labels" and (recipe is None or not recipe.labels):
        if recipe is not None:
            raise InvalidOptionsError(
                f"recipe {recipe.name!r} reads its answer as text: leave answers='labels' out, or choose another recipe="
            )
        if kind not in _LABELLED:
            raise InvalidOptionsError(
                f"answers='labels' orders passages or names the best, and this algorithm asks to {kind}: leave it out, or "
                "choose algorithm='sliding-window' or 'setwise-heapsort'"
            )
        return find(_LABELLED[kind])
    recipe = recipe or default_for(kind)
    if options.answers == "text" and recipe.labels:
        return recipe.model_copy(update={"labels": False, "begun": ""})
    return recipe


_LABELLED: Final[Mapping[str, str]] = {"order": "likelihood", "best": "setwise-labels"}
"""The usual recipe of each kind that reads labels."""


def describe(model: ModelRef, options: Any, *, generators: Generators, own: type[PromptOptions]) -> Iterator[str]:
    """What runs the model, the recipe, and the literal prompt about two passages."""
    from rerank_listwise.plan import ASKS
    from rerank_listwise.questions import Kind

    chosen = generators.choose(model, options, own)
    yield f"generator: {chosen.name}, {chosen.summary}"
    recipe = own_recipe(model, options)
    kind: Kind = "judge"
    if isinstance(options, ListwiseOptions):
        name = options.algorithm or (recipe.algorithm if recipe is not None else "sliding-window")
        yield f"algorithm: {name}"
        kind = ASKS[name]
    asked = choose_recipe(recipe, kind if recipe is None else recipe.kind, options)
    yield f"recipe: {asked.name}, from {asked.source or 'the user'}"
    yield f"windows: {asked.window_size} passages, {asked.stride} further each time, of {asked.max_passage_tokens} tokens"
    yield "the prompt about two sample passages:"
    for message in asked.prompt("what is a panda?", ["The giant panda is a bear of China.", "Hello."]).messages:
        yield f"  {message.role}: {json.dumps(message.content, ensure_ascii=False)}"
    if asked.begun:
        yield f"  the answer begins: {json.dumps(asked.begun, ensure_ascii=False)}"


def claim(model: ModelRef, *, generators: Generators, defaults: Options) -> Claim:
    """Claim models that were trained for several passages; any other only as possible."""
    from rerank_listwise.recipes import trained

    if model.api_provider is not None:
        return Claim(Confidence.NONE, "a chat model needs backend='llm-listwise' beside api_provider=")
    if (recipe := trained(model)) is not None:
        return Claim(Confidence.CERTAIN, f"the recipe {recipe.name} is known for its name")
    if model.gguf_file is None and find_endpoint(model.name, None)[0] is not None:
        return Claim(Confidence.POSSIBLE, "a chat model, which can be asked to rank")
    for generator in generators.known.values():
        if (found := generator.claim(model, defaults)).confidence == Confidence.CERTAIN:
            return found
    if any(str(name).endswith("ForCausalLM") for name in model.config.get("architectures") or ()):
        return Claim(Confidence.POSSIBLE, "a causal language model, which can be asked to rank")
    return Claim(Confidence.NONE, "no chat model and no causal language model")


def claim_filter(model: ModelRef) -> Claim:
    """Claim nothing: a model judges only where that is asked for."""
    return Claim(Confidence.NONE, "a filter needs backend='llm-filter'")


def notes(generators: Generators) -> Callable[[], Iterator[str]]:
    """The generators, for ``rerank list-backends``."""

    def lines() -> Iterator[str]:
        for generator in generators.known.values():
            yield f"{generator.name}: {generator.summary}"

    return lines


_ALIASES: Final[Mapping[str, Mapping[str, Alias]]] = {  # AnswerDotAI rerankers 0.10.0
    "rankgpt": {"other": Alias("gpt-4-turbo-preview")},
    "rankgpt3": {"other": Alias("gpt-3.5-turbo")},
    "rankgpt4": {"other": Alias("gpt-4")},
    "rankllm": {"other": Alias("gpt-4o", {"recipe": "rankgpt-rank-llm"})},
    "rankzephyr": {"other": Alias("castorini/rank_zephyr_7b_v1_full")},
    "rankvicuna": {"other": Alias("castorini/rank_vicuna_7b_v1")},
    "lit5": {"other": Alias("castorini/LiT5-Distill-base")},
    "duot5": {"other": Alias("castorini/duot5-base-msmarco")},
    "jina-v3": {"other": Alias("jinaai/jina-reranker-v3")},
}


@hookimpl
def rerank_add_hooks(registry: Registry) -> None:
    """Let other plugins register generators and recipes."""
    registry.add_hooks(hookspecs)


@hookimpl
def rerank_register_backends(registry: Registry) -> Iterator[Backend]:
    """Describe the backends of this distribution, with the options of every generator."""
    generators = Generators(registry)
    listwise = generators.options(ListwiseOptions)
    yield Backend(
        name="llm-listwise",
        summary="listwise, pairwise and setwise language-model rerankers, through chat APIs and generators",
        load=partial(load, generators=generators, own=ListwiseOptions),
        describe=partial(describe, generators=generators, own=ListwiseOptions),
        claim=partial(claim, generators=generators, defaults=listwise()),
        options=listwise,
        aliases=_ALIASES,
        notes=notes(generators),
    )
    yield Backend(
        name="llm-filter",
        summary="a language model's verdict per document, relevant or not, with its reason",
        load=partial(load, generators=generators, own=FilterOptions),
        describe=partial(describe, generators=generators, own=FilterOptions),
        claim=claim_filter,
        options=generators.options(FilterOptions),
        aliases={"llm-relevance-filter": {"other": Alias("gpt-4-turbo-preview")}},
    )
