"""Models without a causal mask, and models that reason first, equal a plain computation."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from language_models import SHAPE, save_chat_tokenizer, vocabulary
from safetensors.torch import save_file

from rerank import ModelLoadError, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst

TEXTS = [*DOCUMENTS, "", "A nurse bee feeds larvae. " * 12]


def scores(ranked: Any) -> list[float]:
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


@pytest.fixture(scope="module")
def nemotron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama with a score head, as NVIDIA publishes it."""
    folder = tmp_path_factory.mktemp("nemotron")
    save_chat_tokenizer(folder)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**SHAPE, "vocab_size": vocabulary(folder)})
    tensors = {f"model.{name}": tensor for name, tensor in transformers.LlamaModel(config).state_dict().items()}
    tensors["score.weight"] = torch.randn(1, SHAPE["hidden_size"])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    own = {
        **config.to_dict(),
        "architectures": ["LlamaBidirectionalForSequenceClassification"],
        "model_type": "llama_bidirec",
        "pooling": "avg",
        "temperature": 0.5,
    }
    (folder / "config.json").write_text(json.dumps(own), encoding="utf-8")
    return folder


@torch.no_grad()
def bidirectional(folder: Path, query: str, document: str) -> float:
    """One row through transformers' eager attention with a mask that hides nothing."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    raw = {
        key: value for key, value in raw.items() if key not in ("model_type", "pooling", "temperature", "architectures")
    }
    model = transformers.LlamaModel(transformers.LlamaConfig(**raw, attn_implementation="eager")).eval()
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    ids = [1, *tokenizer(f"question:{query} \n \n passage:{document}", add_special_tokens=False)["input_ids"]]
    seen = torch.zeros(1, 1, len(ids), len(ids))
    hidden = model(input_ids=torch.tensor([ids]), attention_mask=seen).last_hidden_state[0]
    return float(tensors["score.weight"][0] @ hidden.mean(dim=0)) / 0.5


def test_a_model_that_reads_both_ways(nemotron: Path) -> None:
    with Reranker(nemotron, backend="llm-pointwise", recipe="nemotron") as reranker:
        ranked = reranker.rank(QUERY, TEXTS)
    assert scores(ranked) == pytest.approx([bidirectional(nemotron, QUERY, text) for text in TEXTS], abs=1e-4)
    assert ranked.scale == "logit"


@pytest.mark.parametrize("pooling", ["cls", "last", "weighted_avg"])
def test_a_model_that_pools_otherwise(nemotron: Path, tmp_path: Path, pooling: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(nemotron, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "pooling": pooling}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match=f"has pooling '{pooling}'"):
        Reranker(folder, backend="llm-pointwise", recipe="nemotron")


def rank1_prompt(text: str) -> str:
    return (
        "Determine if the following passage is relevant to the query. Answer only with 'true' or 'false'.\n"
        f"Query: {QUERY}\nPassage: {text}\n<think>"
    )


@torch.no_grad()
def end_early(folder: Path, text: str) -> None:
    """Change the output matrix so that the chain about one passage ends with its second token."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(rank1_prompt(text), add_special_tokens=False)["input_ids"]
    ids.append(int(network(torch.tensor([ids])).logits[0, -1].argmax()))
    last = network.model(torch.tensor([ids])).last_hidden_state[0, -1]  # (width,)
    network.lm_head.weight[tokenizer.convert_tokens_to_ids("</think>")] = last
    network.save_pretrained(folder)


@pytest.mark.parametrize("ends", [False, True])
def test_a_chain_of_thought_and_then_a_verdict(causal: Callable[..., Path], tmp_path: Path, ends: bool) -> None:
    folder = tmp_path / "model"
    shutil.copytree(causal("qwen2"), folder)
    if ends:
        end_early(folder, DOCUMENTS[0])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with Reranker(folder, backend="llm-pointwise", recipe="rank1", max_new_tokens=12) as reranker:
        ranked = reranker.rank(QUERY, DOCUMENTS)
    true, false = (tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (" true", " false"))
    unfinished = 0
    for text, score in zip(DOCUMENTS, scores(ranked)):
        ids = tokenizer(rank1_prompt(text), add_special_tokens=False)["input_ids"]
        chain: list[int] = []
        with torch.no_grad():
            while len(chain) < 12 and "</think>" not in tokenizer.decode(chain):
                chain.append(int(network(torch.tensor([ids + chain])).logits[0, -1].argmax()))
                if chain[-1] == tokenizer.eos_token_id:
                    break
            if "</think>" not in tokenizer.decode(chain):
                unfinished += 1
                chain = [i for i in chain if i != tokenizer.eos_token_id]
                thought = tokenizer.decode(chain).strip()
                sentences = re.match(r"(?s).*[.!?]", thought)
                closed = f"\n{sentences[0] if sentences else thought}\n</think>"
                chain = tokenizer(closed, add_special_tokens=False)["input_ids"]
            last = network(torch.tensor([ids + chain])).logits[0, -1]
        assert score == pytest.approx(float(last[true] - last[false]), abs=1e-4)
    assert ranked.diagnostics["unfinished"] == unfinished
    assert (unfinished < len(DOCUMENTS)) == ends
    assert ranked.diagnostics["generated_tokens"] > 0


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen3-VL, whose published checkpoints have a tower for images beside the language model."""
    if not hasattr(transformers, "Qwen3VLConfig"):
        pytest.skip(f"transformers {transformers.__version__} has no Qwen3VL")
    folder = tmp_path_factory.mktemp("vision") / "Qwen3-VL-Reranker-tiny"
    folder.mkdir()
    save_chat_tokenizer(folder)
    torch.manual_seed(0)
    text = {**SHAPE, "vocab_size": vocabulary(folder), "rope_parameters": ROPE, "tie_word_embeddings": True}
    tower = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen3VLConfig(
        text_config=text,
        vision_config={**tower, "deepstack_visual_indexes": [0]},
        tie_word_embeddings=True,
        **{f"{name}_token_id": n for n, name in enumerate(("image", "video", "vision_start", "vision_end"), 590)},
    )
    transformers.Qwen3VLForConditionalGeneration(config).eval().save_pretrained(folder)
    return folder


ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}


def test_a_model_that_also_reads_images(vision: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(vision)
    network = transformers.Qwen3VLForConditionalGeneration.from_pretrained(vision).eval()
    yes, no = (tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in ("yes", "no"))
    with Reranker(vision) as reranker:
        assert reranker.backend == "llm-pointwise"
        found = scores(reranker.rank(QUERY, TEXTS))
    for text, score in zip(TEXTS, found):
        prompt = (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a '
            "search query, retrieve relevant candidates that answer the query."
            f"<Query>:{QUERY}\n<Document>:{text or 'NULL'}<|im_end|>\n<|im_start|>assistant\n"
        )
        with torch.no_grad():
            last = network(**tokenizer(prompt, add_special_tokens=False, return_tensors="pt")).logits[0, -1]
        assert score == pytest.approx(float(last[yes] - last[no]), abs=1e-4)


class TestContract(BackendContract):
    @pytest.fixture
    def reranker(self, nemotron: Path) -> Any:
        self.better = best_and_worst(QUERY, DOCUMENTS, [bidirectional(nemotron, QUERY, text) for text in DOCUMENTS])
        with Reranker(nemotron, backend="llm-pointwise", recipe="nemotron") as reranker:
            yield reranker
