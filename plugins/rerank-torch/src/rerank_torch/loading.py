"""Checkpoints through transformers 4 or 5: safetensors first, pickles only as plain weights, code only if trusted."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from rerank import ForkSafeLock, ModelLoadError, ModelRef, is_failure
from rerank_torch.adapters import ADAPTER_CONFIG, adapter_alone, merge_adapter, without_adapter
from rerank_torch.consent import check_settings
from rerank_torch.device import choose_dtype
from rerank_torch.options import TorchOptions
from rerank_torch.sizes import check_labels, check_sizes

logger = logging.getLogger(__name__)

SAFE_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")
PICKLED_WEIGHTS: Final = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_SENTENCEPIECE: Final = frozenset(
    ("sentencepiece.bpe.model", "sentencepiece.model", "spiece.model", "spm.model", "tokenizer.model")
)
_SIDE_FILES: Final = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".bpe", ".vocab")
_MAJOR: Final = int(transformers.__version__.split(".")[0])
_DTYPE_ARGUMENT: Final = "dtype" if _MAJOR >= 5 else "torch_dtype"
_LOADING: Final = ForkSafeLock()
"""One load at a time: transformers' verbosity and torch's default dtype, which a load sets, belong to the process."""


def load_config(model: ModelRef, options: TorchOptions) -> Any:
    """The checkpoint's ``transformers`` configuration, with its class's defaults filled in.

    Raises:
        ModelLoadError: It cannot be found or read, or needs code that is not trusted.
    """
    if ADAPTER_CONFIG in model.files and "config.json" not in model.files:
        raise adapter_alone(model)
    folder = _side_files(model, options)
    with _load_errors(model):
        return transformers.AutoConfig.from_pretrained(folder, **_code_from(model, options))


def load_tokenizer(model: ModelRef, options: TorchOptions) -> Any:
    """The checkpoint's tokenizer, a fast one if there is one.

    Raises:
        ModelLoadError: It cannot be found or read, or needs code that is not trusted.
    """
    folder = _side_files(model, options)
    pieces = sorted(_SENTENCEPIECE & model.files)
    if pieces and "tokenizer.json" not in model.files and find_spec("sentencepiece") is None:
        raise ModelLoadError(
            f"{model.name} has its tokenizer only as {pieces[0]}, which sentencepiece reads: pip install sentencepiece, or "
            "save its fast tokenizer (tokenizer.json) beside it"
        )
    with _load_errors(model):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, **_code_from(model, options), **options.tokenizer_kwargs
        )
    wanted = {"tokenizer.json", *getattr(tokenizer, "vocab_files_names", {}).values()}
    if not wanted & model.files:  # transformers 5 creates an empty one, to which every word is unknown
        raise ModelLoadError(f"{model.name} has no tokenizer ({', '.join(sorted(wanted))}): save it beside the weights")
    return tokenizer


def load_model(kind: str, model: ModelRef, options: TorchOptions, device: str, *, unread: tuple[str, ...] = ()) -> Any:
    """A model on its device, in its dtype, ready to run.

    Args:
        kind: The class of transformers that loads it, such as ``AutoModelForSequenceClassification``.
        model: Where the checkpoint is.
        options: ``dtype``, ``attn_implementation``, ``trust_remote_code``, ``model_kwargs`` and ``peft_path`` are read.
        device: A torch device's name.
        unread: Prefixes of the names of tensors that are never read, so that they may be missing.

    Raises:
        ModelLoadError: Weights are missing, damaged, of another shape or far smaller than config.json says, or the network has no place for some of them; or
            another thread changed their dtype meanwhile; or reading them would run a pickle's code; or the checkpoint's
            Python code builds the model, and is not trusted.
        InvalidOptionsError: ``peft_path`` needs peft, which is not installed.
    """
    if kind in (model.config.get("auto_map") or {}):
        if not options.trust_remote_code:
            raise ModelLoadError(
                f"{model.name} is built by its own Python code: read it, and pass trust_remote_code=True to run it"
            )
        logger.info("running the Python code of %s, as trust_remote_code=True allows", model.name)
    folder = _side_files(model, options)
    safe = _fetch_weights(model)
    check_sizes(model, _weight_files(model, safe))
    arguments: dict[str, Any] = {_DTYPE_ARGUMENT: choose_dtype(options, device), "use_safetensors": safe}
    if options.attn_implementation is not None:
        arguments["attn_implementation"] = options.attn_implementation
    auto = getattr(transformers, kind)
    adapted = options.peft_path is not None
    with without_adapter(model, folder, silent=adapted) as own, _load_errors(model), _classes_kept(auto):
        network, info = auto.from_pretrained(
            own,
            **_code_from(model, options),
            output_loading_info=True,
            **{**arguments, **options.model_kwargs, "weights_only": True, "ignore_mismatched_sizes": True},
        )
        network = network.eval() if "device_map" in options.model_kwargs else network.to(device).eval()
    _check_read(network, model)
    if mismatched := sorted(key for key in info["mismatched_keys"] if not key[0].startswith(unread)):
        name, found, expected = mismatched[0]
        raise ModelLoadError(
            f"{model.name} has {len(mismatched)} tensors of other shapes than its config.json says, {name!r} among them "
            f"({tuple(found)} instead of {tuple(expected)}): use the config.json that belongs to the weights"
        )
    if absent := sorted(key for key in info["missing_keys"] if not key.startswith(unread)):
        if prefix := _find_prefix(info["unexpected_keys"], absent):
            raise ModelLoadError(
                f"the names of {model.name}'s tensors begin with {prefix!r}, as torch's DataParallel ('module.'), its "
                "compile ('_orig_mod.') or a class around the model saves them: save the model inside, for DataParallel by "
                "model.module.save_pretrained(...)"
            )
        raise ModelLoadError(
            f"{model.name} has no weights for {len(absent)} tensors of {type(network).__name__}, {absent[0]!r} among "
            "them, and random ones give random scores: use a checkpoint that was trained as this kind of model"
        )
    _check_unused(network, info["unexpected_keys"], model)
    if "quantization_config" not in {*options.model_kwargs, *model.config}:
        _check_dtype(network, arguments[_DTYPE_ARGUMENT], model)
    return network if options.peft_path is None else merge_adapter(network, options.peft_path, model)


def _find_prefix(unused: Collection[str], absent: Sequence[str]) -> str | None:
    """What stands before every name in a file, and keeps the network from finding its tensors there."""
    keys = set(unused)
    first = min(keys, default="")
    for dot in re.finditer(r"\.", first):
        prefix = first[: dot.end()]
        if any(prefix + name in keys for name in absent) and all(key.startswith(prefix) for key in keys):
            return prefix
    return None


def _check_dtype(network: Any, asked: Any, model: ModelRef) -> None:
    """Refuse parameters of another dtype than asked for; transformers keeps some in float32 on purpose.

    While transformers loads a model, it sets the default dtype of the whole process: a load in a thread of the caller
    changes ours.
    """
    if asked == "auto":
        return
    dtypes = {parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()}
    if others := sorted(map(str, dtypes - {asked, torch.float32})):
        raise ModelLoadError(
            f"{model.name} was loaded in {', '.join(others)} instead of {asked}: another thread loaded a model or set "
            "torch's default dtype meanwhile; load one model after the other. If the checkpoint's own code sets it, pass "
            "that dtype"
        )


def _check_read(network: Any, model: ModelRef) -> None:
    """Refuse a configuration that asks for what transformers 5 passes over in silence, though it changes scores.

    No model of it computes relative positions by ``position_embedding_type``, and none prunes heads; where kinds of
    layers have rotations of their own, a ``rope_scaling`` that calls its kind ``type``, not ``rope_type``, is lost (5.24).

    Raises:
        ModelLoadError: It does.
    """
    if _MAJOR < 5 or not type(network.config).__module__.startswith("transformers."):
        return
    asked = model.config
    relative = str(asked.get("position_embedding_type")).startswith("relative_key")
    unscaled = bool(asked.get("rope_scaling")) and _loses_scaling(network.config)
    for name, is_passed_over, advice in (
        ("position_embedding_type", relative, "pip install 'transformers<5'"),
        ("pruned_heads", bool(asked.get("pruned_heads")), "pip install 'transformers<5'"),
        ("rope_scaling", unscaled, "call its kind rope_type there, not type"),
    ):
        if is_passed_over:
            raise ModelLoadError(
                f"config.json of {model.name} asks for {name}={asked[name]!r:.60}, which transformers "
                f"{transformers.__version__} does not compute for {type(network).__name__}, so its scores would be wrong: "
                f"{advice}"
            )


def _loses_scaling(config: Any) -> bool:
    """Whether a kind of layers has a factor for its positions, and a rotation that reads none."""
    rotations = (getattr(config, "rope_parameters", None) or {}).values()
    kinds = [kind for kind in rotations if isinstance(kind, Mapping)]
    return any(kind.get("rope_type") == "default" and kind.get("factor", 1) != 1 for kind in kinds)


_NO_PART: Final = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias)$")
"""Buffers that are computed anew."""

_POOLER: Final = re.compile(r"(\w+\.)?pooler\.")
"""A pooler beside the layers, which no head reads whose network has none."""

_CAUSAL_MASK: Final = re.compile(r"(^|\.)(attn|attention)\.bias$")
"""What decoders call the buffer that hides later tokens, and other models a bias that was trained."""

_PRETRAINING: Final = re.compile(
    r"(cls\.(predictions|seq_relationship)|decoder\.(weight|bias)$|lm_head|predictions|\w+_predictions|generator_lm_head|"
    r"vocab_\w+|mlm\w*|nsp\w*|sop\w*|lm_loss)\b"
)
"""Heads of pretraining."""


def _check_unused(network: Any, unused: Iterable[str], model: ModelRef) -> None:
    """Refuse weights with tensors that the network has no place for: it would not compute what was trained.

    A network without a head has no place for heads, and needs none.

    Raises:
        ModelLoadError: There are some, apart from those known to change nothing.
    """
    base = network.base_model
    own = {network.base_model_prefix, *(name for part in (network, base) for name, _ in part.named_children())}
    unused = set(unused)
    if masks := {key for key in unused if _CAUSAL_MASK.search(key)}:
        shapes = _read_shapes(model, masks)
        unused -= {key for key, shape in shapes.items() if shape == (1, 1, *shape[-1:], *shape[-1:])}

    has_pooler = any("pooler." in name for name, _ in network.named_parameters())

    def is_harmless(key: str) -> bool:
        if _NO_PART.search(key) or (_POOLER.match(key) and not has_pooler):
            return True
        in_network = key.partition(".")[0] in own
        return not in_network and (network is base or bool(_PRETRAINING.match(key)))

    if refused := sorted(key for key in unused if not is_harmless(key)):
        raise ModelLoadError(
            f"{model.name} has {len(refused)} tensors that {type(network).__name__} has no place for, {refused[0]!r} "
            "among them, and scores without them are wrong: its config.json may belong to other weights, or transformers "
            f"{transformers.__version__} no longer reads such a model; if they are of no use, load the model with "
            "transformers and save it, which leaves them out"
        )


def load_weights(model: ModelRef, folder: str) -> Mapping[str, torch.Tensor]:
    """The tensors of one module folder of a checkpoint, by name, on the CPU.

    Raises:
        ModelLoadError: There are none, they are damaged, or reading them would run a pickle's code.
    """
    files = [f"{folder}/{name}" for name in ("model.safetensors", "pytorch_model.bin")]
    found = next((file for file in files if file in model.files), None)
    if found is None:
        raise ModelLoadError(f"{model.name} has none of {', '.join(files)}: fetch the checkpoint again")
    return _read_tensors(model, found)


def iterate_weights(model: ModelRef) -> Iterator[Mapping[str, torch.Tensor]]:
    """The tensors of a whole checkpoint, by name, on the CPU, one file after another.

    For a network that is built here, not by transformers.

    Raises:
        ModelLoadError: There are none, they are damaged, or reading them would run a pickle's code.
    """
    for name in _weight_files(model, _fetch_weights(model)):
        yield _read_tensors(model, name)


def load_tensor(model: ModelRef, name: str) -> torch.Tensor:
    """One tensor of a whole checkpoint, on the CPU.

    Args:
        model: Where the checkpoint is.
        name: The tensor's name, such as ``linear.weight``.

    Raises:
        ModelLoadError: There is none of that name, its file is damaged, or reading it would run a pickle's code.
    """
    whole, index = SAFE_WEIGHTS if _fetch_weights(model) else PICKLED_WEIGHTS
    file = whole if whole in model.files else model.read_json(index)["weight_map"].get(name)
    if file is None or (found := _read_tensor(model, file, name)) is None:
        raise ModelLoadError(f"{model.name} has no tensor {name!r} among its weights: fetch the checkpoint again")
    return found


def _read_shapes(model: ModelRef, names: AbstractSet[str]) -> Mapping[str, tuple[int, ...]]:
    """The shapes of some tensors of a whole checkpoint, by name. Of pickles, the files that hold them are read again."""
    whole, index = SAFE_WEIGHTS if _fetch_weights(model) else PICKLED_WEIGHTS
    files = {} if whole in model.files else model.read_json(index)["weight_map"]
    shapes: dict[str, tuple[int, ...]] = {}
    for file in {files.get(name, whole) for name in names}:
        if not file.endswith(".safetensors"):
            shapes |= {
                name: tuple(tensor.shape) for name, tensor in _read_tensors(model, file).items() if name in names
            }
            continue
        with _load_errors(model), safe_open(model.fetch(file), framework="pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in names & {*tensors.keys()}}
    return shapes


def _read_tensor(model: ModelRef, file: str, name: str) -> torch.Tensor | None:
    if not file.endswith(".safetensors"):
        return _read_tensors(model, file).get(name)
    with _load_errors(model), safe_open(model.fetch(file), framework="pt") as tensors:
        found: torch.Tensor | None = tensors.get_tensor(name) if name in tensors.keys() else None  # noqa: SIM118
    return found


def _read_tensors(model: ModelRef, file: str) -> Mapping[str, torch.Tensor]:
    path = model.fetch(file)
    with _load_errors(model):
        weights: Mapping[str, torch.Tensor] = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
        )
    return weights


def _code_from(model: ModelRef, options: TorchOptions) -> dict[str, Any]:
    """Whether a checkpoint's Python code may run, and how to fetch it from another repository (as for gte)."""
    return {
        "trust_remote_code": options.trust_remote_code,
        "cache_dir": model.cache_dir,
        "token": model.token,
        "local_files_only": model.local_files_only,
    }


def _side_files(model: ModelRef, options: TorchOptions) -> str:
    """The folder of the checkpoint with everything but its weights fetched, from which transformers may read.

    Raises:
        ModelLoadError: There is none, or its settings ask for code that is not trusted.
    """
    if not options.trust_remote_code:
        check_settings(model)
    check_labels(model)
    if model.is_local and model.files:
        return str(Path(model.name).expanduser())
    suffixes = (*_SIDE_FILES, ".py") if options.trust_remote_code else _SIDE_FILES
    names = sorted(file for file in model.files if "/" not in file and file.endswith(suffixes))
    folders = [model.fetch(name).parent for name in names]
    if not folders:
        raise ModelLoadError(f"{model.name} has no config.json: give a checkpoint of transformers")
    return str(folders[0])


def _fetch_weights(model: ModelRef) -> bool:
    """Fetch the weights; True if they are safetensors, False if they are pickles."""
    for names, safe in ((SAFE_WEIGHTS, True), (PICKLED_WEIGHTS, False)):
        if model.files.isdisjoint(names):
            continue
        for file in _weight_files(model, safe):
            model.fetch(file)
        if not safe:
            logger.info("%s has no safetensors: reading its .bin as plain weights (weights_only=True)", model.name)
        return safe
    if any(file.endswith(".onnx") for file in model.files):
        raise ModelLoadError(
            f"{model.name} has ONNX graphs and no torch weights: run it with backend='onnx', which rerank-onnx brings"
        )
    if ADAPTER_CONFIG in model.files:
        raise adapter_alone(model)
    raise ModelLoadError(
        f"{model.name} has none of {', '.join((*SAFE_WEIGHTS, *PICKLED_WEIGHTS))}: "
        "convert its weights to safetensors (save_pretrained does) and give that folder"
    )


def _weight_files(model: ModelRef, safe: bool) -> list[str]:
    """The files of the weights: one, or those that the index names."""
    whole, index = SAFE_WEIGHTS if safe else PICKLED_WEIGHTS
    if whole in model.files:
        return [whole]
    return sorted(set(model.read_json(index).get("weight_map", {}).values()), key=str)


@contextmanager
def _classes_kept(auto: Any) -> Iterator[None]:
    """Forget the class that a checkpoint brought: transformers 4 runs it for every later checkpoint of the same type."""
    registered: dict[Any, Any] = auto._model_mapping._extra_content
    before = dict(registered)
    try:
        yield
    finally:
        registered.clear()
        registered.update(before)


@contextmanager
def _load_errors(model: ModelRef) -> Iterator[None]:
    """Keep transformers quiet, and turn whatever it raises into a `ModelLoadError` that says what to do."""
    log: Any = transformers.utils.logging
    with _LOADING:
        level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
        log.set_verbosity_error()
        log.disable_progress_bar()
        try:
            yield
        except BaseException as error:
            if not is_failure(error):
                raise
            raise ModelLoadError(
                f"{model.name} cannot be loaded ({type(error).__name__}: {str(error).strip()[:500]}): {_advise(error)}"
            ) from error
        finally:
            log.set_verbosity(level)
            if bars:
                log.enable_progress_bar()


def _advise(error: BaseException) -> str:
    """The next step after an exception of transformers, torch or safetensors, or after what it was raised from."""
    from safetensors import SafetensorError

    message = str(error)
    if "trust_remote_code" in message:
        return "it contains Python code; read it, and pass trust_remote_code=True to run it"
    if isinstance(error, pickle.UnpicklingError) or "Weights only load failed" in message:
        return (
            "its .bin is not plain weights, and reading it could run code, which is refused; convert it to safetensors"
        )
    if isinstance(error, (SafetensorError, EOFError)) or "PytorchStreamReader" in message:
        return "the weights are damaged; fetch the checkpoint again"
    if isinstance(error, KeyError):  # the name of an activation, of a kind of rotation …
        return (
            f"its settings name something that transformers {transformers.__version__} does not have; install the version "
            "that config.json states as transformers_version, or correct the name"
        )
    if isinstance(error, ImportError):
        return "install the package that it names"
    origin = error.__cause__ or error.__context__  # transformers 4 wraps them in an OSError
    if origin is not None:
        return _advise(origin)
    return "check that the folder is a complete checkpoint of transformers, and check model_kwargs and tokenizer_kwargs"
