"""A checkpoint whose settings would fetch, import or run code that nobody agreed to."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rerank import ModelLoadError, Reranker

pytest.importorskip("rerank_crossencoder")

EVIL = "owner/evil-kernel"
SETTINGS = [
    {"attn_implementation": EVIL},
    {"_attn_implementation": EVIL},
    {"_attn_implementation_internal": f"paged|{EVIL}@main:flash"},
    {"attn_implementation": {"": "eager", "text_config": EVIL}},
    {"text_config": {"_attn_implementation": EVIL}},
    {"experts_implementation": EVIL},
    {"parts": [{"_experts_implementation_internal": EVIL}]},
]
MARKED = "open({mark!r}, 'w').close()\n"


@pytest.fixture
def copy(subject_of: Callable[..., Any], tmp_path: Path) -> Path:
    """A small cross-encoder of its own."""
    return Path(shutil.copytree(subject_of("cross-encoder").model, tmp_path / "model"))


def change(file: Path, **settings: Any) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps({**content, **settings}), encoding="utf-8")


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("backend", ["cross-encoder", "colbert"])
def test_a_kernel_of_another_repository_is_refused(copy: Path, settings: dict[str, Any], backend: str) -> None:
    if backend == "colbert":
        pytest.importorskip("rerank_colbert")
    change(copy / "config.json", **settings)
    with pytest.raises(ModelLoadError, match=r"asks for the code of another repository, .*pass trust_remote_code=True"):
        Reranker(copy, backend=backend, local_files_only=True)


def test_a_way_to_attend_that_transformers_has_is_no_code(copy: Path) -> None:
    change(copy / "config.json", attn_implementation="eager")
    with Reranker(copy, backend="cross-encoder", device="cpu") as reranker:
        assert reranker.rank("bees", ["a"])


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModelForSequenceClassification": "own.Own"}}),
        ("config.json", {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}),
        ("config.json", {"auto_map": {"AutoModelForSequenceClassification": "owner/other--own.Own"}}),
        ("tokenizer_config.json", {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}),
        ("generation_config.json", {"custom_generate": "owner/other"}),
        ("modules.json", {}),
    ],
)
def test_code_in_the_folder_does_not_run(copy: Path, tmp_path: Path, file: str, settings: dict[str, Any]) -> None:
    mark = tmp_path / "ran"
    for name in ("own.py", "configuration_own.py", "modeling_own.py", "__init__.py", "custom_generate.py"):
        (copy / name).write_text(MARKED.format(mark=str(mark)), encoding="utf-8")
    if file == "modules.json":
        (copy / file).write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "own.Own"}]), encoding="utf-8")
    else:
        change(copy / file, **settings)
    with suppress(ModelLoadError):
        Reranker(copy, backend="cross-encoder", device="cpu").rank("bees", ["a"])
    assert not mark.exists()


def test_an_adapter_imports_nothing(copy: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "megatron_config": {"a": 1}, "megatron_core": "antigravity"}
    change(adapter / "adapter_config.json", **settings)
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelLoadError, match="has peft import the module 'antigravity': remove megatron_config"):
        Reranker(copy, backend="cross-encoder", device="cpu", peft_path=str(adapter))


class Marks:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.mark), "w")


@pytest.mark.parametrize("file", ["pytorch_model.bin", "training_args.bin", "rng_state.pth", "vocab.pkl"])
def test_a_pickle_does_not_run(copy: Path, tmp_path: Path, file: str) -> None:
    mark = tmp_path / "ran"
    if file == "pytorch_model.bin":
        (copy / "model.safetensors").unlink()
    (copy / file).write_bytes(pickle.dumps(Marks(mark)))
    with suppress(ModelLoadError):
        Reranker(copy, backend="cross-encoder", device="cpu").rank("bees", ["a"])
    assert not mark.exists()
