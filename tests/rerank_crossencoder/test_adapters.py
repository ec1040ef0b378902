"""Adapters: never applied unasked, whether or not peft is installed, and merged as peft merges them."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from rerank import BackendNotFoundError, InvalidOptionsError, ModelLoadError, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY

pytestmark = pytest.mark.filterwarnings("default")  # peft's and transformers' own
QUERY_WEIGHT = "bert.encoder.layer.{}.attention.self.query"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def scores(folder: Path | str, **options: Any) -> list[float]:
    with Reranker(folder, device="cpu", **options) as reranker:
        return [reranker.score(QUERY, text) for text in DOCUMENTS]


def write_adapter(folder: Path, base: str) -> None:
    """A LoRA adapter of rank 4 on every query projection, with a head of its own, as peft saves it."""
    torch.manual_seed(5)
    head = "base_model.model.classifier"
    weights = {f"{head}.weight": torch.randn(1, 32), f"{head}.bias": torch.randn(1)}
    for layer in range(3):
        name = f"base_model.model.{QUERY_WEIGHT.format(layer)}"
        weights |= {f"{name}.lora_A.weight": torch.randn(4, 32), f"{name}.lora_B.weight": torch.randn(32, 4)}
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 4, "lora_alpha": 8, "target_modules": ["query"]}
    (folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": base}))


@pytest.fixture
def both(checkpoint: Any, tmp_path: Path) -> Path:
    """Whole weights with an adapter beside them."""
    folder = tmp_path / "both"
    shutil.copytree(checkpoint("bert"), folder)
    write_adapter(folder, "owner/base")
    return folder


@pytest.fixture(params=["with peft", "without peft"])
def _peft(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "with peft":
        pytest.importorskip("peft", reason="needs peft: nox -s peers")
    else:
        monkeypatch.setitem(sys.modules, "peft", None)
        for module in (
            "transformers.utils",
            "transformers.modeling_utils",
            "transformers.integrations.peft",
            "transformers.models.auto.auto_factory",
        ):
            monkeypatch.setattr(f"{module}.is_peft_available", lambda: False, raising=False)


@pytest.mark.usefixtures("_peft")
@pytest.mark.parametrize("base", ["owner/base", "", "/not/here"])
def test_whole_weights_count_as_they_are_and_the_adapter_beside_is_reported(
    checkpoint: Any, both: Path, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(both, base or str(both))
    with caplog.at_level(logging.WARNING, logger="rerank_torch"):
        found = scores(both)
    assert found == pytest.approx(scores(checkpoint("bert")), abs=1e-6)
    assert "is not applied, since the weights may hold it already: if they do not, pass peft_path=" in caplog.text


@pytest.mark.usefixtures("_peft")
@pytest.mark.parametrize("base", ["owner/both", "owner/other"])
def test_on_the_hub_whole_weights_count_as_they_are_too(
    hub: Any, checkpoint: Any, both: Path, base: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(both, base)
    hub.add("owner/both", files_of(both))
    expected = scores(checkpoint("bert"))
    with caplog.at_level(logging.WARNING, logger="rerank_torch"):
        assert scores("owner/both") == pytest.approx(expected, abs=1e-6)
    assert "pass peft_path='owner/both'" in caplog.text
    hub.stop()
    assert scores("owner/both", local_files_only=True) == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("_peft")
def test_on_the_hub_an_adapter_alone_says_how_it_is_used(hub: Any, both: Path) -> None:
    alone = {name: content for name, content in files_of(both).items() if name != "model.safetensors"}
    hub.add("owner/beside", alone)
    hub.add("owner/alone", {name: content for name, content in alone.items() if name.startswith("adapter_")})
    with pytest.raises(ModelLoadError, match=r"holds only an adapter, of the model 'owner/base': .*='owner/beside'"):
        Reranker("owner/beside", device="cpu", backend="cross-encoder")
    with pytest.raises(BackendNotFoundError, match=r"it holds only an adapter: merge it .*peft_path='owner/alone'"):
        Reranker("owner/alone")


def test_a_peft_path_on_the_hub_is_merged(hub: Any, checkpoint: Any, both: Path) -> None:
    pytest.importorskip("peft", reason="needs peft: nox -s peers")
    hub.add("owner/both", files_of(both))
    hub.add("owner/base", files_of(checkpoint("bert")))
    merged = scores(checkpoint("bert"), peft_path=str(both))
    for model in ("owner/base", "owner/both", checkpoint("bert")):
        assert scores(model, peft_path="owner/both") == pytest.approx(merged, abs=1e-6)


def test_peft_path_merges_as_peft_does(checkpoint: Any, both: Path, caplog: pytest.LogCaptureFixture) -> None:
    peft = pytest.importorskip("peft", reason="needs peft: nox -s peers")
    base = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint("bert"))
    adapted = peft.PeftModel.from_pretrained(base, both).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(both)
    with torch.no_grad():
        truth = [
            float(adapted(**tokenizer(QUERY, text, return_tensors="pt", truncation=True, max_length=160)).logits)
            for text in DOCUMENTS
        ]
    caplog.clear()
    assert scores(both, peft_path=str(both)) == pytest.approx(truth, abs=1e-3)
    assert scores(checkpoint("bert"), peft_path=str(both)) == pytest.approx(truth, abs=1e-3)
    assert "is not applied" not in caplog.text
    assert truth != pytest.approx(scores(checkpoint("bert")), abs=1e-2)
    merged = both.parent / "merged"
    shutil.copytree(both, merged)
    adapted.merge_and_unload().save_pretrained(merged)
    assert scores(merged) == pytest.approx(truth, abs=1e-3)


@pytest.mark.usefixtures("_peft")
def test_an_adapter_alone_says_how_it_is_used(both: Path, tmp_path: Path) -> None:
    (both / "model.safetensors").unlink()
    with pytest.raises(
        ModelLoadError, match=r"holds only an adapter, of the model 'owner/base': merge it .*peft_path="
    ):
        Reranker(both, device="cpu", backend="cross-encoder")
    write_adapter(tmp_path / "alone", "owner/base")
    with pytest.raises(BackendNotFoundError, match=r"it holds only an adapter: merge it .*peft_path='.*alone'"):
        Reranker(tmp_path / "alone")


def test_without_peft_a_peft_path_says_what_to_install(
    checkpoint: Any, both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InvalidOptionsError, match="peft_path needs peft: pip install peft"):
        Reranker(checkpoint("bert"), device="cpu", peft_path=str(both))
