"""From a model's name to a GGUF file on this machine: a file, a folder, a hub repository, or FlashRank's archive."""

from __future__ import annotations

import re
import tempfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rerank import Claim, Confidence, InvalidOptionsError, ModelLoadError, ModelRef
from rerank_listwise.generators.endpoints import is_remote

FLASHRANK: Final = "rank_zephyr_7b_v1_full"
"""FlashRank's listwise model (0.2.10): a zip archive in a hub repository."""

_FLASHRANK_REPOSITORY: Final = "prithivida/flashrank"
_FLASHRANK_FILE: Final = "rank_zephyr_7b_v1_full.Q4_K_M.gguf"
_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf)$", re.IGNORECASE)
_OTHER_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".onnx")


def claim(model: ModelRef, options: Any) -> Claim:
    """Claim GGUF files, what ``gguf_file`` names, and checkpoints that are nothing but GGUF files."""
    if model.gguf_file is not None:
        return Claim(Confidence.CERTAIN, "a GGUF file")
    if _is_flashrank(model):
        return Claim(Confidence.CERTAIN, "FlashRank's listwise model, a GGUF file")
    if options.gguf_file is not None:
        return Claim(Confidence.CERTAIN, "gguf_file was given")
    if not model.is_local and ("/" not in model.name or is_remote(model, options)):
        return Claim(Confidence.NONE, "no GGUF file, no folder, and no repository of the hub")
    try:
        files = model.files
    except ModelLoadError as error:
        return Claim(Confidence.NONE, str(error))
    if not any(file.lower().endswith(".gguf") for file in files):
        return Claim(Confidence.NONE, "no .gguf file in the checkpoint")
    if other := sorted(file for file in files if file.endswith(_OTHER_WEIGHTS)):
        return Claim(Confidence.POSSIBLE, f"GGUF files with {other[0]} beside them: give gguf_file= to choose one")
    return Claim(Confidence.LIKELY, "the checkpoint has GGUF files and no other weights")


def _is_flashrank(model: ModelRef) -> bool:
    return model.name == FLASHRANK and not model.is_local


def find_file(model: ModelRef, gguf_file: str | None) -> Path:
    """The GGUF file of a model, downloaded if necessary; of a model in several parts the first, with all others beside it.

    Args:
        model: Its name and where to look.
        gguf_file: Which of several; None takes the only one.

    Raises:
        ModelLoadError: The file is missing or cannot be fetched.
        InvalidOptionsError: There are several, or ``gguf_file`` names none of them.
    """
    if (itself := model.gguf_file) is not None:
        if gguf_file not in (None, itself.name):
            raise InvalidOptionsError(f"{model.name} is a GGUF file itself: leave gguf_file={gguf_file!r} out")
        model, gguf_file = replace(model, name=str(itself.parent)), itself.name
    elif _is_flashrank(model):
        if gguf_file is not None:
            raise InvalidOptionsError(f"{FLASHRANK} is one GGUF file: leave gguf_file={gguf_file!r} out")
        return _unpacked(model)
    files = sorted(file for file in model.files if file.lower().endswith(".gguf"))
    models = [file for file in files if _is_first(file) and not file.rpartition("/")[2].startswith("mmproj")]
    if gguf_file is not None:
        chosen = _part(gguf_file, 1)
        if gguf_file not in files or chosen not in files:
            raise InvalidOptionsError(
                f"{model.name} has no file {gguf_file if gguf_file not in files else chosen!r}: choose gguf_file= from "
                f"{', '.join(models) or 'a checkpoint with GGUF files'}"
            )
    elif len(models) > 1:
        raise InvalidOptionsError(f"{model.name} has several GGUF files: give gguf_file= one of {', '.join(models)}")
    elif not models:
        raise ModelLoadError(f"{model.name} has no GGUF file of a model: give a folder or repository that has one")
    else:
        (chosen,) = models
    count = int(found[2]) if (found := _PART.search(chosen)) else 1
    parts = [model.fetch(_part(chosen, number)) for number in range(1, count + 1)]
    return parts[0]


def _is_first(file: str) -> bool:
    return _part(file, 1) == file


def _part(file: str, number: int) -> str:
    """The file's part of this number; the file itself if it is whole."""
    return _PART.sub(lambda found: f"-{number:05}-of-{found[2]}{found[3]}", file)


def _unpacked(model: ModelRef) -> Path:
    """FlashRank's file, unpacked from its archive whole or not at all."""
    from huggingface_hub.constants import HF_HOME

    root = Path(model.cache_dir).expanduser() if model.cache_dir else Path(HF_HOME) / "rerank-llm"
    target = root / (FLASHRANK if model.revision is None else f"{FLASHRANK}@{model.revision}") / _FLASHRANK_FILE
    if target.is_file():
        return target
    repository = replace(model, name=_FLASHRANK_REPOSITORY, alias=FLASHRANK)
    repository.check_files()  # a hub that cannot be reached is noticed at once, not after several attempts
    archive = repository.fetch(f"{FLASHRANK}.zip")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(archive) as content, tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            member = next(name for name in content.namelist() if name.endswith(".gguf"))
            Path(content.extract(member, scratch)).replace(target)  # extracting checks the CRC
    except (zipfile.BadZipFile, zlib.error, EOFError, StopIteration) as error:
        raise ModelLoadError(f"{archive} is not a complete archive of {FLASHRANK}: fetch it again") from error
    except OSError as error:
        raise ModelLoadError(
            f"{FLASHRANK} cannot be unpacked into {target.parent} ({error.strerror}): pass a cache_dir= that can be written "
            "and has room"
        ) from error
    return target
