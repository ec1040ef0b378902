"""How a checkpoint encodes and compares: read from its own files, in whichever layout they are."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rerank import ModelLoadError, ModelRef, saved_prompt
from rerank_torch.modules import Module, read_modules

Augmentation: TypeAlias = Literal["fixed", "minimum", "dynamic", "none"]

METADATA_FILE: Final = "artifact.metadata"
_SETTINGS_FILE: Final = "config_sentence_transformers.json"
_STANFORD: Final = "HF_ColBERT"
_PUNCTUATION: Final = tuple(string.punctuation)
_PYLATE_KEYS: Final = frozenset(
    ("query_prefix", "document_prefix", "query_length", "document_length", "attend_to_expansion_tokens")
)
_STRATEGIES: Final = {"fixed": "fixed", "min": "minimum"}
_SIMILARITIES: Final = ("maxsim", "MaxSim", "meanmaxsim", "cosine", "dot")
"""How sentence-transformers and PyLate call what is computed here; the last two are left over from single-vector models."""
_VECTORS: Final = "token_embeddings"
_PROJECTIONS: Final = ("Dense", "LayerNorm")


class Recipe(BaseModel):
    """How a late-interaction model encodes queries and documents, and compares them.

    Args:
        layout: Where it was read: ``stanford``, ``modules`` or, for an encoder that was not trained for late interaction,
            ``zero-shot``.
        query_marker: A token of the vocabulary that is inserted before a query.
        document_marker: The same for a document.
        query_prompt: Text before a query, which is tokenized with it.
        document_prompt: The same for a document.
        query_length: Token count per query, special tokens included; None means the model's limit, at most 1,024.
        document_length: Token count per document, special tokens included; None means the model's limit, at most 1,024.
        augmentation: How short queries are filled.
        augmented_length: The token count they are filled to.
        augmentation_token: What fills them; None means the mask token, else the end-of-sequence token.
        attends: Whether tokens attend to those that fill the query.
        skiplist: Tokens that are not compared.
        skips_in_documents: Whether these are left out in documents.
        skips_in_queries: Whether these are left out in queries.
        specials: Whether special tokens are compared.
        strips: Whether spaces around a text are left out.
        lowercases: Whether texts are lowercased, whatever the tokenizer does.
        projections: The modules between the encoder and the vectors, in order; Stanford's has its own.
        normalize: Whether vectors have length one.
        mean: Whether the score is the mean over the query's vectors, not the sum.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["stanford", "modules", "zero-shot"]
    query_marker: str = ""
    document_marker: str = ""
    query_prompt: str = ""
    document_prompt: str = ""
    query_length: int | None = Field(default=None, ge=4)
    document_length: int | None = Field(default=None, ge=4)
    augmentation: Augmentation = "none"
    augmented_length: int = Field(default=32, ge=4)
    augmentation_token: str | None = None
    attends: bool = False
    skiplist: tuple[str, ...] = ()
    skips_in_documents: bool = True
    skips_in_queries: bool = False
    specials: bool = True
    strips: bool = False
    lowercases: bool = False
    projections: tuple[Module, ...] = ()
    normalize: bool = True
    mean: bool = False


ZERO_SHOT: Final = Recipe(layout="zero-shot", skiplist=_PUNCTUATION, skips_in_queries=True, specials=False)
"""For any encoder: its words' vectors as they are. Punctuation matches punctuation whatever the text says."""


def choose_recipe(model: ModelRef) -> Recipe:
    """A checkpoint's recipe, or for an encoder that was not trained for late interaction `ZERO_SHOT` with its prompts.

    Raises:
        ModelLoadError: As `read_recipe`.
    """
    if recipe := read_recipe(model):
        return recipe
    prompts = {"query_prompt": saved_prompt(model, "query"), "document_prompt": saved_prompt(model, "document")}
    return ZERO_SHOT.model_copy(update=prompts)


def read_recipe(model: ModelRef) -> Recipe | None:
    """A checkpoint's recipe; None if it was not trained for late interaction.

    Raises:
        ModelLoadError: A file cannot be fetched or read, or needs something that is not supported.
    """
    try:
        if METADATA_FILE in model.files or _STANFORD in (model.config.get("architectures") or ()):
            return _read_stanford(model)
        if modules := read_modules(model):
            settings = model.read_json(_SETTINGS_FILE) if _SETTINGS_FILE in model.files else {}
            if _is_multi_vector(settings, modules):
                return _read_modules(model, settings, modules)
    except (ValidationError, TypeError, AttributeError, KeyError) as error:
        raise ModelLoadError(
            f"the recipe of {model.name}, in {METADATA_FILE} or in {_SETTINGS_FILE} and its modules, cannot be used "
            f"({_say(error)}): fetch the checkpoint again"
        ) from error
    return None


def _say(error: Exception) -> str:
    """What is wrong, by the name of the recipe's field or of the file's key."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__}: {error}"
    return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())


def _read_stanford(model: ModelRef) -> Recipe:
    """Stanford's layout (colbert-ai 0.2.22): ``artifact.metadata``, with that library's defaults for what it lacks."""
    metadata: Mapping[str, Any] = {}
    if METADATA_FILE in model.files:
        metadata = model.read_json(METADATA_FILE)
    if metadata.get("similarity", "cosine") != "cosine" or metadata.get("interaction", "colbert") != "colbert":
        raise ModelLoadError(
            f"{model.name} compares by similarity {metadata.get('similarity')!r} and interaction "
            f"{metadata.get('interaction')!r}, and only cosine and colbert are supported: use colbert-ai for it"
        )
    length = metadata.get("query_maxlen") or 32
    return Recipe(
        layout="stanford",
        query_marker=metadata.get("query_token_id") or "[unused0]",
        document_marker=metadata.get("doc_token_id") or "[unused1]",
        query_length=length,
        document_length=metadata.get("doc_maxlen") or 220,
        augmentation="fixed",
        augmented_length=length,
        attends=metadata.get("attend_to_mask_tokens", False),
        skiplist=_PUNCTUATION if _flag(metadata, "mask_punctuation", True) else (),
    )


def _is_multi_vector(settings: Mapping[str, Any], modules: Sequence[Module]) -> bool:
    """Whether modules give a vector per token: their settings say so, they mask tokens, or they project without pooling."""
    if _is_pylate(settings) or settings.get("model_type") == "MultiVectorEncoder":
        return True
    kinds = [module.kind for module in modules[1:]]
    return "MultiVectorMask" in kinds or (bool(kinds) and {*kinds} <= {*_PROJECTIONS})


def _is_pylate(settings: Mapping[str, Any]) -> bool:
    return settings.get("model_type") == "ColBERT" or not _PYLATE_KEYS.isdisjoint(settings)


def _read_modules(model: ModelRef, settings: Mapping[str, Any], modules: Sequence[Module]) -> Recipe:
    """The layout with ``modules.json``."""
    _check_modules(model, modules)
    masks = [module.config for module in modules if module.kind == "MultiVectorMask"]
    projections = tuple(module for module in modules if module.kind in _PROJECTIONS)
    if settings.get("model_type") != "MultiVectorEncoder" and not masks:
        recipe = _read_pylate(settings, projections)
    else:
        normalizes = any(module.kind == "Normalize" for module in modules)
        recipe = _read_multi_vector(settings, modules[0].config, masks[0] if masks else {}, projections, normalizes)
    return recipe.model_copy(update={"lowercases": modules[0].config.get("do_lower_case") is True})


def _read_pylate(settings: Mapping[str, Any], projections: tuple[Module, ...]) -> Recipe:
    """What PyLate (1.6) saves: all of it beside the prefixes, with defaults; it masks, strips and normalises always.

    Prompts go by role, as sentence-transformers has them of the same file; PyLate leaves them out unless they are asked for.
    """
    augmented = _pylate_expansion(settings)
    return Recipe(
        layout="modules",
        query_marker=_or_default(settings.get("query_prefix"), "[Q] "),
        document_marker=_or_default(settings.get("document_prefix"), "[D] "),
        query_prompt=_prompt(settings, "query"),
        document_prompt=_prompt(settings, "document"),
        query_length=settings.get("query_length") or 32,
        document_length=settings.get("document_length") or 180,
        skiplist=_or_default(settings.get("skiplist_words"), _PUNCTUATION),
        strips=True,
        projections=projections,
        **augmented,
    )


def _pylate_expansion(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The query augmentation that PyLate's settings state."""
    if not _flag(settings, "do_query_expansion", True):
        return {}
    return {
        "augmentation": "fixed",
        "augmented_length": settings.get("query_length") or 32,
        "attends": settings.get("attend_to_expansion_tokens") or False,
    }


def _read_multi_vector(
    settings: Mapping[str, Any],
    encoder: Mapping[str, Any],
    mask: Mapping[str, Any],
    projections: tuple[Module, ...],
    normalizes: bool,
) -> Recipe:
    """What sentence-transformers (6.2) saves: each setting with the module that needs it."""
    stated = {**settings, **encoder}
    if "query_expansion" in stated or not _is_pylate(settings):
        augmented = _expansion(stated.get("query_expansion"))
    else:  # of PyLate's settings
        augmented = _pylate_expansion(settings)
    tasks = _or_default(mask.get("skiplist_tasks"), ["document"])  # a list, or one name
    is_fixed = augmented.get("augmentation") == "fixed"
    return Recipe(
        layout="modules",
        query_prompt=_prompt(settings, "query"),
        document_prompt=_prompt(settings, "document"),
        query_length=augmented["augmented_length"] if is_fixed else stated.get("query_length"),
        document_length=stated.get("document_length"),
        skiplist=mask.get("skiplist_words") or (),
        skips_in_documents="document" in tasks,
        skips_in_queries="query" in tasks,
        projections=projections,
        normalize=normalizes,
        mean=_is_mean(settings),
        **augmented,
    )


def _expansion(stated: Mapping[str, Any] | None) -> dict[str, Any]:
    """The query augmentation that sentence-transformers' ``query_expansion`` states."""
    if not stated:
        return {}
    return {
        "augmentation": _STRATEGIES.get(stated.get("strategy", ""), stated.get("strategy")),
        "augmented_length": stated.get("length"),
        "augmentation_token": stated.get("token"),
        "attends": stated.get("attend") or False,
    }


def _is_mean(settings: Mapping[str, Any]) -> bool:
    name = settings.get("similarity_fn_name") or "maxsim"
    if name not in _SIMILARITIES:
        raise TypeError(f"similarity_fn_name is {name!r:.40}, which is not one of {', '.join(_SIMILARITIES)}")
    return bool(name == "meanmaxsim")


def _prompt(settings: Mapping[str, Any], role: str) -> str:
    """The text before a query or a document; a file of several libraries may repeat the marker there."""
    prompt = (settings.get("prompts") or {}).get(role) or ""
    marker = settings.get(f"{role}_prefix") or ""
    return str(prompt.removeprefix(marker))


def _flag(settings: Mapping[str, Any], key: str, default: bool) -> bool:
    value = _or_default(settings.get(key), default)
    if not isinstance(value, bool):
        raise TypeError(f"{key} is {value!r:.40}, neither true nor false")
    return value


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _check_modules(model: ModelRef, modules: Sequence[Module]) -> None:
    """Refuse what would change the vectors in a way that is not computed here."""
    first, *rest = modules
    unknown = [module.kind for module in rest if module.kind not in (*_PROJECTIONS, "MultiVectorMask", "Normalize")]
    task = first.config.get("transformer_task") or "feature-extraction"
    kept = any(module.config.get("keep_only_token_ids") for module in rest)
    outputs = [module.config.get("module_output_name") or _VECTORS for module in rest if module.kind in _PROJECTIONS]
    if first.kind != "Transformer" or first.path:
        problem = "does not begin with a Transformer in its own folder"
    elif unknown:
        problem = f"has the module {unknown[0]}"
    elif task != "feature-extraction":
        problem = f"was made for the task {task!r}"
    elif {*outputs} - {_VECTORS}:
        problem = f"has a projection whose result is called {outputs}, not {_VECTORS}"
    elif kept:
        problem = "compares the vectors of certain tokens only (keep_only_token_ids), as models of images do"
    else:
        return
    raise ModelLoadError(f"{model.name} {problem}, which is not supported: load it with sentence-transformers")


def describe_recipe(recipe: Recipe) -> Iterator[str]:
    """A recipe as lines for ``rerank explain``."""
    lengths = [length or "the model's limit" for length in (recipe.query_length, recipe.document_length)]
    yield f"layout: {recipe.layout}; score: {'mean' if recipe.mean else 'sum'} of each query vector's best {_product(recipe)}"
    yield f"query: {recipe.query_marker + recipe.query_prompt!r} before it, at most {lengths[0]} tokens, {_filling(recipe)}"
    yield f"document: {recipe.document_marker + recipe.document_prompt!r} before it, at most {lengths[1]} tokens, {len(recipe.skiplist)} kinds of tokens skipped"


def _product(recipe: Recipe) -> str:
    return "cosine" if recipe.normalize else "inner product"


def _filling(recipe: Recipe) -> str:
    if recipe.augmentation == "none":
        return "not augmented"
    token = recipe.augmentation_token or "mask"
    attended = "" if recipe.attends else "not "
    return f"augmented to {recipe.augmented_length} ({recipe.augmentation}) by {token} tokens that are {attended}attended to"
