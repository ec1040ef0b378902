"""Core's options, how a backend adds its own, and how a wrong one is reported."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import iscoroutinefunction, signature
from pathlib import Path
from typing import Annotated, Any, Final, Literal, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretBytes, SecretStr, ValidationError

from rerank.errors import InvalidOptionsError
from rerank.model_source import SOURCE_ARGUMENTS

T = TypeVar("T")
_RELOAD: Final = "reload"
Reload = Annotated[T, _RELOAD]
"""Marks an option that is fixed when the model loads: ``device: Reload[str] = "cpu"``."""

Aggregate = Literal["max", "mean", "first"]


class Options(BaseModel):
    """Core's own options; a backend subclasses this to add its own.

    Args:
        normalize: Return scores in [0, 1]: through the model's published map, else the sigmoid of a logit.
        batch_size: At most this many rows per forward pass; None leaves it to ``max_batch_tokens``.
        max_batch_tokens: At most this many tokens per forward pass, padding included; None is the backend's default.
        long_documents: ``truncate`` cuts a document at the model's limit; ``chunk`` scores windows of it, and
            ``details["window"]`` says which one won: its number from 0 (``index``), how many there are (``count``), its
            ``score``, and where it stands in ``tokens`` and, if the tokenizer can tell, in ``characters``.
        window: Tokens of a document per window; None fills the model's limit.
        overlap: Tokens that neighbouring windows share.
        aggregate: How the scores of a document's windows become one.
        progress: Show a progress bar for long work, on standard error and only if that is a terminal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())

    normalize: bool = False
    batch_size: int | None = Field(default=None, ge=1)
    max_batch_tokens: int | None = Field(default=None, ge=1)
    long_documents: Literal["truncate", "chunk"] = "truncate"
    window: int | None = Field(default=None, ge=1)
    overlap: int = Field(default=32, ge=0)
    aggregate: Aggregate = "max"
    progress: bool = True

    def without_secrets(self) -> dict[str, Any]:
        """The options that were given, by name, but for those that hold secrets: what a pickle holds."""
        given = {name: getattr(self, name) for name in self.__class__.model_fields if name in self.model_fields_set}
        return {name: value for name, value in given.items() if not _holds_secret(value)}

    def __getstate__(self) -> dict[Any, Any]:
        return BaseModel.__getstate__(type(self).model_construct(**self.without_secrets()))


def _holds_secret(value: Any) -> bool:
    """Whether an option's value is a secret, or contains one."""
    if isinstance(value, (Mapping, BaseModel)):
        return any(map(_holds_secret, (value if isinstance(value, Mapping) else vars(value)).values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_holds_secret, value))
    return isinstance(value, (SecretStr, SecretBytes))


CALL_ARGUMENTS: Final = ("query", "docs", "doc_ids", "metadata", "text_fields", "top_k")
"""What `rerank.Reranker.rank` takes besides options."""

_NAMES_ELSEWHERE: Final = {
    **dict.fromkeys(("model_name", "model_name_or_path", "model_id", "model_path"), "model"),
    **dict.fromkeys(("documents", "passages", "texts", "candidates", "sentences", "corpus", "chunks", "nodes"), "docs"),
    **dict.fromkeys(("document", "passage", "text", "candidate", "sentence", "chunk", "node"), "doc"),
    **dict.fromkeys(("top_n", "topn", "top", "k", "limit", "return_top_k"), "top_k"),
    **dict.fromkeys(("ids", "document_ids", "docids"), "doc_ids"),
    **dict.fromkeys(("q", "question", "queries", "query_text", "query_str"), "query"),
    "max_seq_length": "max_length",
    "provider": "api_provider",
}
"""What other libraries call our arguments and options."""

O = TypeVar("O", bound=Options)  # noqa: E741 (the one letter that says Options)


def parse_options(kind: type[O], given: Mapping[str, Any], backend: str) -> O:
    """Validate ``given`` as options of ``backend``.

    Raises:
        InvalidOptionsError: An option is unknown (the message suggests the closest name) or has a wrong value.
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        problems = [_describe(problem, kind) for problem in error.errors(include_input=False, include_url=False)]
    found = "; ".join(problems)
    raise InvalidOptionsError(
        f"backend {backend!r} cannot use these options: {found}{'' if found.endswith('?') else '.'} "
        f"Its options are: {', '.join(sorted(kind.model_fields))}"
    )


M = TypeVar("M", bound=BaseModel)


def read_data(kind: type[M], given: Mapping[str, Any] | str | Path, origin: str) -> M:
    """An option's value from a mapping, or from a JSON file.

    Args:
        kind: What it describes, such as a recipe.
        given: The mapping, or the file.
        origin: What the user gave, for errors, such as ``the recipe``.

    Raises:
        InvalidOptionsError: The file cannot be read, or a field is missing, unknown or wrong.
    """
    origin = origin if isinstance(given, Mapping) else f"{origin} in {given}"
    try:
        content = (
            given if isinstance(given, Mapping) else json.loads(Path(given).expanduser().read_text(encoding="utf-8"))
        )
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}" for problem in error.errors()
        )
    except (OSError, ValueError) as error:
        problems = str(error)
    raise InvalidOptionsError(
        f"{origin} cannot be used ({problems}): fix it; its fields are {', '.join(kind.model_fields)}"
    )


def is_data(value: Any) -> bool:
    """Whether an option's value is what `read_data` reads: a mapping, or the path of a JSON file."""
    return isinstance(value, Mapping) or (isinstance(value, (str, Path)) and Path(value).suffix == ".json")


def find_named(name: str, known: Mapping[str, T], what: str, own: str = "a file of your own") -> T:
    """What an option names.

    Args:
        name: The name that the user gives.
        known: What there is, by name.
        what: What it is, such as ``recipe``.
        own: What may be given instead of a name.

    Raises:
        InvalidOptionsError: There is none; the message suggests the closest name.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}, or give {own}"
    raise InvalidOptionsError(f"there is no {what} {name!r}: {hint}")


def override_options(options: O, given: Mapping[str, Any], backend: str) -> O:
    """``options`` with one call's overrides, validated again.

    Raises:
        InvalidOptionsError: As for `parse_options`, or the option is fixed when the model loads.
    """
    if not given:
        return options
    fields = type(options).model_fields
    for name in given:
        is_fixed = _RELOAD in fields[name].metadata if name in fields else name in SOURCE_ARGUMENTS
        if is_fixed:
            raise InvalidOptionsError(
                f"{name!r} is fixed when the model loads: build another Reranker(..., {name}=...)"
            )
    construction = {name: getattr(options, name) for name in options.model_fields_set}
    return parse_options(type(options), {**construction, **given}, backend)


def _describe(problem: Mapping[str, Any], kind: type[Options]) -> str:
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{name!r}: {problem['msg']}" if name else str(problem["msg"])
    if name in CALL_ARGUMENTS:
        return f"{name!r} is no option, but an argument of rank"
    near = nearest(name, [*kind.model_fields, *SOURCE_ARGUMENTS, "model", *CALL_ARGUMENTS])
    return f"{name!r} is unknown" + (f", did you mean {near!r}?" if near else "")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name of an option or argument that a wrong one most likely means; None if none is near."""
    known = list(known)
    meant = _NAMES_ELSEWHERE.get(name, name)
    return next(iter(difflib.get_close_matches(meant, known, n=1) or difflib.get_close_matches(name, known, n=1)), None)


P = ParamSpec("P")
R = TypeVar("R")


def name_arguments(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method say what to write where a call gives one of its required arguments under another name.

    Without this, ``rank("q", passages=[…])`` is Python's own `TypeError`, which names only what is missing.
    """
    required = [name for name, own in signature(method).parameters.items() if own.default is own.empty]
    required = [name for name in required if name not in ("self", "options")]

    def check(arguments: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        missing = [name for name in required[len(arguments) - 1 :] if name not in given]
        for name in given if missing else ():
            if (near := nearest(name, missing)) is not None and name not in required:
                raise InvalidOptionsError(f"{method.__name__} takes no {name!r}: did you mean {near!r}?")

    if iscoroutinefunction(method):

        @wraps(method)
        async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
            check(args, kwargs)
            return await method(*args, **kwargs)

        return awaited  # type: ignore[return-value]

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        check(args, kwargs)
        return method(*args, **kwargs)

    return called
