"""A model by name: nothing is read until a backend asks for its files."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from rerank.errors import ModelLoadError
from rerank.hub import Repository, files_below
from rerank.model_source import ModelSource

logger = logging.getLogger(__name__)

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_GGUF_SUFFIX = re.compile(r"([.-](UD-)?(I?Q\d|TQ\d|B?F16|FP16|F32|MXFP4)\w*)?(-\d{5}-of-\d{5})?\.gguf$", re.IGNORECASE)
"""What a GGUF file's name says after the model's: how it is quantised, and which part of how many it is."""


@dataclass(frozen=True)
class ModelRef(ModelSource):
    """A model's name and where to look for it: a folder, a GGUF file, or a repository of the Hugging Face hub.

    Attributes:
        name: The path of a folder or a GGUF file, a hub name such as ``BAAI/bge-reranker-v2-m3``, or a name that a backend
            knows.
        alias: The short name that the user gave, if ``name`` was looked up from one.

    The other fields are those of `rerank.ModelSource`. Without a ``token``, requests to the hub use ``HF_TOKEN`` or the
    saved login. ``HF_HUB_OFFLINE=1`` has the same effect as ``local_files_only``.
    """

    name: str
    alias: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the name is a folder on this machine."""
        return self._path is not None and self._path.is_dir()

    @property
    def gguf_file(self) -> Path | None:
        """The GGUF file of this name on this machine, which is a whole model; None if the name is no such file."""
        path = self._path
        return path if path is not None and path.suffix.lower() == ".gguf" and path.is_file() else None

    @property
    def _path(self) -> Path | None:
        """The file or folder of this name on this machine, if any."""
        try:
            path = Path(self.name).expanduser()
            return path if self.name and path.exists() else None
        except (OSError, RuntimeError, ValueError):  # a path that is too long, an unknown user's home, a null character
            return None

    @property
    def hub_name(self) -> str:
        """The model's name on the hub, as far as it is known.

        A folder on this machine is known by the hub's name in the hub's cache (``models--Qwen--Qwen3-Reranker-0.6B``), else
        by its own name, which a download usually keeps from the hub, without the owner. A GGUF file is known by its own name
        without its quantisation: ``zephyr-7b-beta`` for ``zephyr-7b-beta.Q4_K_M.gguf``.
        """
        return self._hub_name[0]

    @property
    def _hub_name(self) -> tuple[str, bool]:
        """The name on the hub, and whether it is whole."""
        if self.gguf_file is not None:
            return _GGUF_SUFFIX.sub("", self.gguf_file.name), False
        if not self.is_local:
            return self.name, True
        folder = Path(self.name).expanduser().resolve()
        cached = next((part for part in reversed(folder.parts) if part.startswith("models--")), None)
        if cached is None:
            return folder.name, False
        return cached.removeprefix("models--").replace("--", "/", 1), True

    def is_one_of(self, names: Iterable[str]) -> bool:
        """Whether the model's name on the hub is one of these; a name that ends in ``*`` is a prefix.

        A folder or GGUF file, whose name lacks the owner, is compared without the owners; a name that is only an owner's is
        left out.
        """
        known, whole = self._hub_name
        if not whole:
            names = [own for name in names if (own := name.rpartition("/")[2]) != "*"]
        return any(known.startswith(name[:-1]) if name.endswith("*") else known == name for name in names)

    @property
    def files(self) -> frozenset[str]:
        """Paths of the checkpoint's files, relative, with forward slashes; read once.

        Raises:
            ModelLoadError: There is no such folder, and the hub has no such repository or cannot be reached.
        """
        if isinstance(self._listing, ModelLoadError):
            raise self._listing
        return self._listing

    def check_files(self) -> None:
        """Check that there are files to read, before heavy libraries are imported to read them.

        Raises:
            ModelLoadError: As for `files`.
        """
        if isinstance(self._listing, ModelLoadError):
            raise self._listing

    @cached_property
    def _listing(self) -> frozenset[str] | ModelLoadError:
        """The files, or why they cannot be listed: several backends ask, but the hub is asked only once."""
        if self._path is not None and self.is_local:
            found = files_below(self._path)
            if link := next((file for file in sorted(found) if _leaves(self._path, file)), None):
                return ModelLoadError(
                    f"{link} of {self.name} is a link to {(self._path / link).resolve()}, outside that folder: copy the file "
                    "there if you trust it, or remove the link"
                )
            return found or ModelLoadError(_empty(self.name, self._path))
        if self.gguf_file is not None:
            return ModelLoadError(
                f"model {self.name!r} is a file, which only backend='llm-listwise' and backend='llm-filter' run: "
                "choose one of them, or give the folder of a checkpoint"
            )
        if self._path is not None:
            return ModelLoadError(f"model {self.name!r} is a file: give the folder of its checkpoint")
        if not _HUB_NAME.fullmatch(self.name):
            return ModelLoadError(
                f"model {self.name!r} is not a folder on this machine and not a valid hub name: "
                "give a folder, or a hub name such as 'BAAI/bge-reranker-v2-m3'"
            )
        try:
            return self._repository.files()
        except ModelLoadError as error:
            return error

    @cached_property
    def _fetched(self) -> dict[str, Path]:
        return {}

    @cached_property
    def _repository(self) -> Repository:
        return Repository(self.name, self, asked=self.alias)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The checkpoint's ``config.json``; empty if it has none.

        Raises:
            ModelLoadError: It cannot be fetched, or is not a JSON object.
        """
        return self.read_json("config.json") if "config.json" in self.files else {}

    def read_json(self, file: str) -> Mapping[str, Any]:
        """One JSON file of the checkpoint; a damaged copy in the cache is fetched again.

        Raises:
            ModelLoadError: It cannot be fetched, or is not a JSON object.
        """
        try:
            return _read_json(self.fetch(file))
        except ValueError as error:
            damage = error
        if not self.is_local and not self.local_files_only:
            logger.warning("%s of %s is damaged in the cache (%s); fetching it again", file, self.name, damage)
            with suppress(ValueError):
                return _read_json(self.fetch(file, repair=True))
        raise ModelLoadError(f"{file} of {self.name} is not a JSON object ({damage}): fetch the checkpoint again")

    def fetch(self, file: str, *, repair: bool = False) -> Path:
        """The local path of one file, downloaded if necessary; the hub is asked once per file.

        Args:
            file: Relative path inside the checkpoint.
            repair: Download again unless the cached copy is known to match the hub's.

        Raises:
            ModelLoadError: The file does not exist, cannot be downloaded completely, or is not inside the checkpoint.
        """
        if not _is_inside(file):
            raise ModelLoadError(f"{self.name} names a file outside itself, {file!r:.80}: do not use this checkpoint")
        if self._path is None or not self._path.is_dir():
            if repair or file not in self._fetched:
                self._fetched[file] = self._repository.download(file, repair=repair)
            return self._fetched[file]
        path = self._path / file
        if not path.is_file():
            raise ModelLoadError(f"{self.name} has no file {file!r}: fetch the checkpoint again")
        if _is_pointer(path):
            raise ModelLoadError(
                f"{file} of {self.name} is a git-lfs pointer, not the file: fetch it with 'git lfs pull' in that folder"
            )
        return path


def _is_inside(file: object) -> bool:
    """Whether a checkpoint's own name of a file is a relative path that stays inside."""
    return isinstance(file, str) and not re.search(r"[\\:\0]|(^|/)(\.\.|/|$)", file)


def _leaves(folder: Path, file: str) -> bool:
    """Whether a file of a folder is a link to somewhere else, other than to a blob of the hub's cache."""
    path = folder / file
    if not (path.is_symlink() or path.parent.is_symlink()):
        return False
    target = path.resolve()
    in_cache = target.parent.name == "blobs" and target.parent.parent.name.startswith("models--")
    return not in_cache and folder.resolve() not in target.parents


def _empty(name: str, path: Path) -> str:
    """What to say of a folder without files: one called like a model of the hub hides that model."""
    if folders := sorted(inner.name for inner in path.iterdir() if not inner.name.startswith(".")):
        return (
            f"the folder {name!r} holds only folders, {folders[0]!r} among them: give the one with a checkpoint's files"
        )
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        return f"the folder {name!r} is empty, and hides the hub's model of that name: remove it, or fill it"
    return f"the folder {name!r} is empty: give the folder of a checkpoint"


_POINTER: Final = b"version https://git-lfs.github.com/spec/"


def _is_pointer(path: Path) -> bool:
    """Whether a file is what git keeps of a large one."""
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _read_json(path: Path) -> Mapping[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")  # noqa: TRY004 (a fault of the file, like bad JSON)
    return content
