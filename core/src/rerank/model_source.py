"""Where a model comes from: every argument of a `rerank.Reranker` that is not the model's name or a backend's option."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields

from rerank.errors import InvalidInputError, InvalidOptionsError

_NO_REVISION = re.compile(r"[\s\x00-\x1f\x7f~^:?*\[\\]|\.\.|(^|/)(\.|/|$)")
"""What no branch, tag or commit of git has in its name, and a path elsewhere may have."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What `rerank.Reranker` takes besides a model's name and its backend's options.

    The ``help`` of each field describes it on the command line; `rerank.Reranker` documents the same arguments.

    Raises:
        InvalidInputError: An argument is of the wrong type.
        InvalidOptionsError: ``backend`` and ``model_type`` differ, or ``revision`` is no name that git gives.
    """

    backend: str | None = field(
        default=None,
        metadata={"help": "The backend to use, if several could run the model or none claims it."},
    )
    lang: str = field(default="en", metadata={"help": "The language of a short name's model: en, fr, zh … or other."})
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit on the hub."})
    token: str | None = field(
        default=None, repr=False, metadata={"help": "Access token for the hub, instead of HF_TOKEN or a saved login."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder for downloads, instead of the hub's cache."})
    local_files_only: bool = field(default=False, metadata={"help": "Never access the network."})
    model_type: str | None = field(default=None, metadata={"help": "Another name for backend."})
    api_provider: str | None = field(default=None, metadata={"help": "The API vendor that serves the model."})

    def __post_init__(self) -> None:
        for argument in fields(ModelSource):
            value = getattr(self, argument.name)
            if not (value is None or isinstance(value, str) or isinstance(argument.default, bool)):
                raise InvalidInputError(
                    f"{argument.name} is of type {type(value).__name__}: give a str, or leave it out"
                )
        if None not in (self.backend, self.model_type) and self.backend != self.model_type:
            raise InvalidOptionsError(
                f"backend={self.backend!r} and model_type={self.model_type!r} differ: give one of them"
            )
        if self.revision is not None and _NO_REVISION.search(self.revision):
            raise InvalidOptionsError(
                f"revision={self.revision!r:.80} is no branch, tag or commit: give one, or leave it out"
            )


SOURCE_ARGUMENTS = tuple(argument.name for argument in fields(ModelSource))
"""Their names; these arguments are fixed when the model loads, whatever the backend."""


def as_path(value: str | os.PathLike[str], name: str) -> str:
    """Return the argument ``name`` as a str.

    Raises:
        InvalidInputError: It is neither a str nor a path.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        raise InvalidInputError(f"{name} is of type {type(value).__name__}: give a name or a folder as a str or a Path")
    return path
