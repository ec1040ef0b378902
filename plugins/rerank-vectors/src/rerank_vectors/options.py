"""The options that say where a backend keeps document vectors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from rerank import Options, Reload


class VectorOptions(Options):
    """Core's options, and where a backend that encodes documents on their own keeps their vectors.

    Args:
        vectors: Where document vectors are kept: ``memory``, ``disk`` (the folder that `default_folder` names), or a
            folder of your own; None keeps none.
        vectors_dtype: How they are kept: ``fp16``, or ``int8`` in half the bytes, with a scale per vector.
        vectors_max_bytes: At most this many bytes are kept, in memory or in the folder, where it counts for all models
            together; what was not used for longest goes first. Each further process that writes to a folder may exceed
            it for a moment by one segment, a 64th of the default.
    """

    vectors: Reload[Literal["memory", "disk"] | Path | None] = None
    vectors_dtype: Reload[Literal["fp16", "int8"]] = "fp16"
    vectors_max_bytes: Reload[int] = Field(default=4 * 2**30, ge=2**20)

    @field_validator("vectors", mode="before")
    @classmethod
    def _whole_path(cls, given: Any) -> Any:
        if given is None:
            return None
        if not isinstance(given, (str, Path)) or given == "":
            raise ValueError("give 'memory', 'disk' or a folder")
        if given in ("memory", "disk"):
            return given
        if isinstance(given, str) and (word := given.strip().lower()) in ("memory", "disk", "none"):
            meant = "None, which keeps no vectors" if word == "none" else repr(word)
            raise ValueError(f"did you mean {meant}? A folder of that name is {'./' + given!r}")
        try:
            return Path(given).expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(f"{error}: give the folder's whole path") from error

    @property
    def vectors_folder(self) -> Path | None:
        """The folder that vectors are kept in, if any."""
        if self.vectors == "disk":
            return default_folder()
        return self.vectors if isinstance(self.vectors, Path) else None


def default_folder() -> Path:
    """Where ``vectors="disk"`` keeps vectors: ``rerank/vectors`` in the user's folder for caches."""
    if sys.platform == "win32":
        named, usual = "LOCALAPPDATA", Path("~/AppData/Local")
    else:
        named, usual = "XDG_CACHE_HOME", Path("~/.cache")
    return Path(os.environ.get(named) or usual).expanduser() / "rerank" / "vectors"
