"""Merged adapters score as in peft, and quantised weights as in transformers; `nox -s peers` installs what they need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

peft = pytest.importorskip("peft", reason="needs peft: nox -s peers")

from language_models import save_causal  # noqa: E402

from rerank import ModelLoadError, Reranker  # noqa: E402
from rerank.testing.contract import DOCUMENTS, QUERY  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # peft's and transformers' own
RECIPE = {"name": "short", "pieces": "Q: {query} D: {document} ->", "true": "1", "false": "0"}


def save_adapter(folder: Path, network: Any, targets: list[str]) -> Any:
    """A LoRA adapter with random weights."""
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
    adapted = peft.get_peft_model(network, config).eval()
    adapted.save_pretrained(folder)
    return adapted


def test_an_adapter_of_a_causal_model(causal: Callable[..., Path], tmp_path: Path) -> None:
    folder = causal("qwen2")
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    adapted = save_adapter(tmp_path / "adapter", network, ["q_proj", "v_proj", "down_proj"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    true, false = (tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in "10")
    options = {"backend": "llm-pointwise", "recipe": RECIPE}
    with (
        Reranker(folder, **options, peft_path=str(tmp_path / "adapter")) as reranker,
        Reranker(folder, **options) as without,
    ):
        for text in DOCUMENTS:
            ids = tokenizer(f"Q: {QUERY} D: {text} ->", add_special_tokens=False, return_tensors="pt")
            with torch.no_grad():
                last = adapted(**ids).logits[0, -1]
            assert reranker.score(QUERY, text) == pytest.approx(float(last[true] - last[false]), abs=1e-4)
            assert without.score(QUERY, text) != pytest.approx(float(last[true] - last[false]), abs=1e-3)


def test_an_adapter_of_a_t5(t5: Path, tmp_path: Path) -> None:
    network = transformers.T5ForConditionalGeneration.from_pretrained(t5)
    adapted = save_adapter(tmp_path / "adapter", network, ["q", "v"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(t5)
    true, false = tokenizer.convert_tokens_to_ids(["▁true", "▁false"])
    ids = tokenizer(f"Query: {QUERY} Document: {DOCUMENTS[0]} Relevant:", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = adapted(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
    with Reranker(t5, backend="t5", peft_path=str(tmp_path / "adapter")) as reranker:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(float(logits[true] - logits[false]), abs=1e-4)


def test_an_adapter_that_cannot_be_used(causal: Callable[..., Path], t5: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(ModelLoadError, match=r"lacks one of adapter_config.json, adapter_model.safetensors"):
        Reranker(causal(), backend="llm-pointwise", recipe=RECIPE, peft_path=str(tmp_path / "empty"))
    save_adapter(tmp_path / "t5", transformers.T5ForConditionalGeneration.from_pretrained(t5), ["q", "v"])
    with pytest.raises(ModelLoadError, match=r"cannot be added to .*give the adapter that was trained on this model"):
        Reranker(causal(), backend="llm-pointwise", recipe=RECIPE, peft_path=str(tmp_path / "t5"))


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_quantised_weights(tmp_path: Path, quantization: str) -> None:
    pytest.importorskip("bitsandbytes", reason="needs bitsandbytes: nox -s peers")
    folder = save_causal(tmp_path / "model", "qwen2", hidden_size=64, head_dim=16, intermediate_size=64)
    config = transformers.BitsAndBytesConfig(**{f"load_in_{quantization}": True})
    network = transformers.AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=config, device_map={"": "cpu"}, dtype=torch.float32
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    true, false = (tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in "10")
    options = {"backend": "llm-pointwise", "recipe": RECIPE, "quantization": quantization, "device": "cpu"}
    with Reranker(folder, **options) as reranker, torch.no_grad():
        for text in DOCUMENTS[:3]:
            ids = tokenizer(f"Q: {QUERY} D: {text} ->", add_special_tokens=False, return_tensors="pt")
            last = network(**ids).logits[0, -1]
            assert reranker.score(QUERY, text) == pytest.approx(float(last[true] - last[false]), abs=0.05)
