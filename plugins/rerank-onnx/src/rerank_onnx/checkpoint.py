"""From a model's name to the files of one graph: a folder, a hub repository, or one of FlashRank's archives."""

from __future__ import annotations

import platform
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

from rerank import InvalidOptionsError, ModelLoadError, ModelRef, read_tokenizer_config
from rerank_onnx.graph_file import external_files
from rerank_onnx.options import FLASHRANK, OnnxOptions

_FLASHRANK_REPOSITORY: Final = "prithivida/flashrank"
MOST_MEMBERS: Final = 1000
"""Files that an archive may have; FlashRank's have about six."""

MAX_RATIO: Final = 20
"""How many times its own size an archive may be unpacked; weights hardly shrink, and vocabularies to a quarter."""

_MOST_FILES: Final = 10_000
"""So many are looked at for a graph that lies too deep: a folder may be anybody's."""

_QUANTIZED: Final = re.compile(r"int8|uint8|quantized|_q4|bnb4", re.IGNORECASE)


class DamagedCheckpointError(ModelLoadError):
    """A file exists, but its content cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The files of one graph.

    Args:
        model: Where they come from: the folder of an unpacked archive, or what the user named.
        graph: The ``.onnx`` file; external data lies beside it.
        tokenizer: Its ``tokenizer.json``.
        config: Its ``config.json``; empty if there is none.
        tokenizer_config: Its ``tokenizer_config.json``; empty if there is none.
    """

    model: ModelRef
    graph: Path
    tokenizer: Path
    config: Mapping[str, Any]
    tokenizer_config: Mapping[str, Any]


def find_checkpoint(model: ModelRef, options: OnnxOptions, *, repair: bool = False) -> Checkpoint:
    """Find, and download if necessary, what a graph needs.

    Args:
        model: Its name and where to look.
        options: ``file_name`` and ``quantized`` choose among several graphs.
        repair: Download again, or unpack again, what may be damaged.

    Raises:
        ModelLoadError: A file is missing or cannot be fetched.
        InvalidOptionsError: ``file_name`` names no graph of the checkpoint.
    """
    if model.name in FLASHRANK:
        model = replace(model, name=str(_unpacked(model, repair=repair)))
    graph = _choose_graph(model, options)
    path = model.fetch(graph, repair=repair)
    for file in _weight_files(model, graph, path):
        model.fetch(file, repair=repair)
    return Checkpoint(
        model=model,
        graph=path,
        tokenizer=model.fetch(_beside(model, graph, "tokenizer.json"), repair=repair),
        config=model.config,
        tokenizer_config=read_tokenizer_config(model),
    )


def _choose_graph(model: ModelRef, options: OnnxOptions) -> str:
    graphs = sorted(filter(lambda file: file.lower().endswith(".onnx"), model.files), key=_rank_graph)
    if not graphs and (deeper := find_deeper_graph(model)):
        raise ModelLoadError(f"{model.name} has no .onnx file there or one folder below: {deeper}")
    if options.file_name is not None:
        matches = [graph for graph in graphs if graph in (options.file_name, f"onnx/{options.file_name}")]
        if not matches:
            raise InvalidOptionsError(
                f"{model.name} has no graph {options.file_name!r}: choose one of {', '.join(graphs) or 'none'}"
            )
        return matches[0]
    if not graphs:
        raise ModelLoadError(f"{model.name} has no .onnx file: export the model, or use another backend")
    plain = [graph for graph in graphs if not _QUANTIZED.search(graph)]
    quantized = [graph for graph in graphs if _QUANTIZED.search(graph) and _runs_here(graph)]
    preferred = (quantized or plain) if options.quantized else (plain or quantized)
    return (preferred or graphs)[0]


def _weight_files(model: ModelRef, graph: str, path: Path) -> list[str]:
    """The files of a checkpoint that hold weights of a graph beside it.

    Raises:
        DamagedCheckpointError: The graph cannot be read.
        ModelLoadError: It names a file that is none of the checkpoint's.
    """
    try:
        named = sorted(external_files(path))
    except ValueError as error:
        raise DamagedCheckpointError(f"{path} cannot be read as a graph ({error}): fetch it again") from error
    files = {name: str(PurePosixPath(graph).parent / name) for name in named}
    if absent := [name for name, file in files.items() if file not in model.files]:
        raise ModelLoadError(
            f"{graph} of {model.name} has weights in {absent[0]!r:.80}, which is no file of the checkpoint: fetch all its files, "
            "or do not use it if the name leads elsewhere"
        )
    return list(files.values())


def find_deeper_graph(model: ModelRef) -> str | None:
    """What to say of a graph two folders below a local one, where no checkpoint has it; None if there is none."""
    if not model.is_local:
        return None
    files = islice(Path(model.name).expanduser().glob("*/*/*"), _MOST_FILES)
    found = min((file for file in files if file.suffix.lower() == ".onnx"), default=None)
    if found is None:
        return None
    return f"{found} lies deeper, so give its folder as the model, with its tokenizer.json beside it"


def _rank_graph(graph: str) -> tuple[bool, int, str]:
    """The plainest name first, and 4 bits after 8."""
    return bool(re.search(r"q4|bnb4", graph)), len(graph), graph


def _runs_here(graph: str) -> bool:
    """Whether a quantised file made for one processor family, as its name says, suits this machine."""
    arm = platform.machine().lower() in ("arm64", "aarch64")
    return "avx" not in graph if arm else "arm64" not in graph


def _beside(model: ModelRef, graph: str, file: str) -> str:
    own = (Path(graph).parent / file).as_posix()
    if own in model.files or file in model.files:
        return own if own in model.files else file
    raise ModelLoadError(f"{model.name} has no {file} beside {graph}: save its fast tokenizer there")


def _unpacked(model: ModelRef, *, repair: bool) -> Path:
    """The folder of one of FlashRank's models, unpacked from its archive whole or not at all."""
    root = Path(model.cache_dir).expanduser() if model.cache_dir else default_cache()
    folder = root / (model.name if model.revision is None else f"{model.name}@{model.revision}")
    if not repair and _is_whole(folder):
        return folder
    repository = replace(model, name=_FLASHRANK_REPOSITORY, alias=model.name)
    if f"{model.name}.zip" not in repository.files:  # which also finds out at once whether the hub can be reached
        raise ModelLoadError(f"{_FLASHRANK_REPOSITORY} has no {model.name}.zip: check the hub, or export the model")
    archive = repository.fetch(f"{model.name}.zip", repair=repair)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{model.name}-") as scratch:
            unpacked = Path(scratch) / "unpacked"
            with zipfile.ZipFile(archive) as content:
                _check_archive(archive, content, folder)
                content.extractall(unpacked)  # checks each member's CRC, and keeps to the folder
            whole = next(path for path in (unpacked / model.name, unpacked) if _is_whole(path))
            _move(whole, folder, aside=Path(scratch) / "old", repair=repair)
    except (zipfile.BadZipFile, zlib.error, EOFError, StopIteration) as error:
        raise DamagedCheckpointError(f"{archive} is not a complete archive of {model.name}: fetch it again") from error
    except OSError as error:
        raise ModelLoadError(
            f"{model.name} cannot be unpacked into {folder} ({error.strerror}): pass a cache_dir= that can be written"
        ) from error
    return folder


def _check_archive(archive: Path, content: zipfile.ZipFile, folder: Path) -> None:
    """Refuse an archive by the sizes that it states, which unpacking does not exceed.

    Raises:
        ModelLoadError: It has more than `MOST_MEMBERS` files, or is more than `MAX_RATIO` times as large unpacked.
    """
    members = content.infolist()
    size = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or size > MAX_RATIO * archive.stat().st_size:
        raise ModelLoadError(
            f"{archive} has {len(members)} files and unpacks to {size // 10**6} MB, far more than a model of its size: unpack "
            f"it yourself into {folder} if you trust it"
        )


def _move(source: Path, target: Path, *, aside: Path, repair: bool) -> None:
    """Rename a folder to a path that may be taken: a complete folder from a faster process stays."""
    if repair:
        with suppress(FileNotFoundError):
            target.replace(aside)
    try:
        source.replace(target)
    except OSError:
        if _is_whole(target):
            return
        target.replace(aside)
        source.replace(target)


def _is_whole(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() and any(folder.glob("*.onnx"))


def default_cache() -> Path:
    """Where archives are unpacked if the user names no folder."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "rerank-onnx"
