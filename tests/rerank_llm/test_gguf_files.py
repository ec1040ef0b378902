"""Which models the generator ``gguf`` claims, and where their files come from; llama.cpp is not needed."""

from __future__ import annotations

import io
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub

from rerank import Confidence, InvalidOptionsError, ModelLoadError, ModelRef, Reranker
from rerank_listwise.generators.options import ChatOptions
from rerank_listwise.options import ListwiseOptions
from rerank_listwise.recipes import trained
from rerank_llm.generators.gguf_files import FLASHRANK, claim, find_file
from rerank_llm.generators.gguf_options import GgufOptions

REPOSITORY = "acme/zephyr-GGUF"
PARTS = [f"zephyr-Q8_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


class BothOptions(ListwiseOptions, GgufOptions, ChatOptions):
    """The options of the backend and of its generators together."""


def confidence(model: str | Path, **options: Any) -> Confidence:
    return Confidence(claim(ModelRef(str(model)), BothOptions(**options)).confidence)


def test_claims(tmp_path: Path, hub: Hub) -> None:
    file = tmp_path / "zephyr.Q4_K_M.gguf"
    assert confidence(tmp_path) == Confidence.NONE
    assert confidence(tmp_path, gguf_file=file.name) == Confidence.CERTAIN
    file.write_bytes(b"GGUF")
    assert confidence(file) == Confidence.CERTAIN
    assert confidence(tmp_path) == Confidence.LIKELY
    (tmp_path / "model.safetensors").touch()
    assert confidence(tmp_path) == Confidence.POSSIBLE
    assert confidence(FLASHRANK) == Confidence.CERTAIN
    hub.add(REPOSITORY, {"zephyr.Q4_K_M.gguf": "GGUF"})
    assert confidence(REPOSITORY) == Confidence.LIKELY
    assert confidence("acme/nothing") == Confidence.NONE


@pytest.mark.parametrize("name", ["gpt-4o", "groq/llama-3.3-70b-versatile", "zephyr", ""])
def test_models_of_endpoints_are_not_looked_for_on_the_hub(hub: Hub, name: str) -> None:
    assert confidence(name) == Confidence.NONE
    assert hub.seen == []


@pytest.mark.parametrize(
    "name", ["gpt-oss-20b-Q4_K_M.gguf", f"{FLASHRANK}.Q4_K_M.gguf", "Qwen3-Reranker-0.6B-Q8_0.gguf"]
)
def test_a_file_is_run_here_whatever_its_name(tmp_path: Path, name: str) -> None:
    """And not by an endpoint, nor by torch."""
    (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises((ModelLoadError, InvalidOptionsError), match=r"llama\.cpp|llama-cpp-python"):
        Reranker(tmp_path / name)
    with pytest.raises(ModelLoadError, match=r"is a file, .*llm-listwise"):
        Reranker(tmp_path / name, backend="llm-pointwise")


def test_rankzephyr_is_known_by_its_files_name(tmp_path: Path) -> None:
    for name in (f"{FLASHRANK}.Q4_K_M.gguf", "rank_zephyr_7b_v1_full-q8_0.gguf", "rank_zephyr_7b.gguf"):
        (tmp_path / name).touch()
        recipe = trained(ModelRef(str(tmp_path / name)))
        assert recipe is not None
        assert recipe.name == "rankzephyr"


def test_one_file_of_several(tmp_path: Path) -> None:
    for name in ("a.Q4_0.gguf", "a.Q8_0.gguf", "mmproj-a.gguf", *PARTS):
        (tmp_path / name).touch()
    model = ModelRef(str(tmp_path))
    with pytest.raises(InvalidOptionsError, match=rf"give gguf_file= one of a.Q4_0.gguf, a.Q8_0.gguf, {PARTS[0]}$"):
        find_file(model, None)
    with pytest.raises(InvalidOptionsError, match=r"no file 'b.gguf': choose gguf_file= from a.Q4_0.gguf"):
        find_file(model, "b.gguf")
    assert find_file(model, "a.Q8_0.gguf") == tmp_path / "a.Q8_0.gguf"
    assert find_file(ModelRef(str(tmp_path / "a.Q4_0.gguf")), None) == tmp_path / "a.Q4_0.gguf"
    with pytest.raises(InvalidOptionsError, match="leave gguf_file="):
        find_file(ModelRef(str(tmp_path / "a.Q4_0.gguf")), "a.Q8_0.gguf")


def test_parts_are_fetched_together(hub: Hub, tmp_path: Path) -> None:
    hub.add(REPOSITORY, {"README.md": "", **dict.fromkeys(PARTS, "GGUF")})
    for asked in (None, PARTS[0], PARTS[1]):
        found = find_file(ModelRef(REPOSITORY), asked)
        assert found.name == PARTS[0]
        assert all(found.with_name(part).is_file() for part in PARTS)
    for part in (PARTS[0], PARTS[2]):
        (tmp_path / part).touch()
    with pytest.raises(ModelLoadError, match=f"has no file '{PARTS[1]}'"):
        find_file(ModelRef(str(tmp_path / PARTS[2])), None)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "mmproj-a.gguf").touch()
    with pytest.raises(ModelLoadError, match="has no GGUF file of a model"):
        find_file(ModelRef(str(tmp_path)), None)


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for name in names:
            packed.writestr(name, "GGUF")
    return content.getvalue()


@pytest.mark.parametrize("folder", ["", f"{FLASHRANK}/"])
def test_flashranks_archive(hub: Hub, tmp_path: Path, folder: str) -> None:
    hub.add("prithivida/flashrank", {f"{FLASHRANK}.zip": archive(f"{folder}{FLASHRANK}.Q4_K_M.gguf")})
    model = ModelRef(FLASHRANK, cache_dir=str(tmp_path / "cache"))
    found = find_file(model, None)
    assert found == tmp_path / "cache" / FLASHRANK / f"{FLASHRANK}.Q4_K_M.gguf"
    assert [path.name for path in found.parent.iterdir()] == [found.name]
    hub.seen.clear()
    assert find_file(model, None).read_bytes() == b"GGUF"
    assert hub.seen == []


def test_flashranks_archive_out_of_reach_is_given_up_at_once(hub: Hub, tmp_path: Path) -> None:
    hub.stop()
    started = time.perf_counter()
    with pytest.raises(ModelLoadError, match=f"which '{FLASHRANK}' stands for, is not in the cache"):
        find_file(ModelRef(FLASHRANK, cache_dir=str(tmp_path / "cache")), None)
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("content", [b"no archive", archive("other.txt")])
def test_a_damaged_archive(hub: Hub, tmp_path: Path, content: bytes) -> None:
    hub.add("prithivida/flashrank", {f"{FLASHRANK}.zip": content})
    with pytest.raises(ModelLoadError, match="is not a complete archive"):
        find_file(ModelRef(FLASHRANK, cache_dir=str(tmp_path / "cache")), None)


def test_without_llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.delitem(sys.modules, "rerank_llm.forwards.gguf", raising=False)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidOptionsError, match=r"pip install 'rerank-llm\[gguf\]'"):
        Reranker(tmp_path / "a.gguf", backend="llm-listwise")


def test_options_that_another_sets() -> None:
    with pytest.raises(ValueError, match="n_ctx: give context_size"):
        GgufOptions(model_kwargs={"n_ctx": 5})


def test_a_suffix_in_capitals(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"A-0000{number}-of-00002.GGUF").write_bytes(b"GGUF")
    assert confidence(tmp_path) == Confidence.LIKELY
    assert find_file(ModelRef(str(tmp_path)), None).name == "A-00001-of-00002.GGUF"


def test_torch_reads_no_gguf_file(tmp_path: Path) -> None:
    file = tmp_path / "rank_zephyr_7b_v1_full.Q4_K_M.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match="is a GGUF file, which generator='torch' does not read"):
        Reranker(str(file), backend="llm-listwise", generator="torch")
