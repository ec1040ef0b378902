"""The backend's description is cheap and recognises cross-encoders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from rerank import Confidence, InvalidOptionsError, ModelLoadError, ModelRef, Registry, Reranker, resolution
from rerank.options import parse_options
from rerank.registry import installed
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_crossencoder import backend
from rerank_crossencoder.options import CrossEncoderOptions
from rerank_torch import find_accelerators


def claim(folder, config, *files):
    (folder / "config.json").write_text(json.dumps(config))
    for file in files:
        path = folder / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return backend.claim(ModelRef(name=str(folder)))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("config", "confidence", "reason"),
    [
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, Confidence.CERTAIN, "with 1 output,"),
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a"}}, Confidence.CERTAIN, "1 output"),
        ({"architectures": ["ElectraForSequenceClassification"]}, Confidence.CERTAIN, "with 2 outputs,"),
        (
            {"architectures": ["BertForSequenceClassification"], "id2label": dict.fromkeys("abc", "x")},
            Confidence.NONE,
            "3 outputs sorts texts into classes",
        ),
        ({"architectures": ["BertModel"]}, Confidence.NONE, "BertModel"),
        ({"architectures": ["Qwen3ForCausalLM"]}, Confidence.NONE, "Qwen3ForCausalLM"),
        ({}, Confidence.NONE, "no architectures"),
        (
            {"architectures": ["LlamaForSequenceClassification"], "num_labels": 1},
            Confidence.POSSIBLE,
            "a decoder's recipe is in its prompt",
        ),
    ],
)
def test_claims(tmp_path, config, confidence, reason, weights):
    found = claim(tmp_path, config, weights)
    assert found.confidence == confidence
    assert reason in found.reason


def test_onnx_alone_is_left_to_others_and_beside_torch_weights_is_not(tmp_path):
    config = {"architectures": ["BertForSequenceClassification"], "num_labels": 1}
    found = claim(tmp_path, config, "onnx/model.onnx", "tokenizer.json")
    assert found.confidence == Confidence.NONE
    assert "no torch weights" in found.reason
    assert claim(tmp_path, config, "model.safetensors").confidence == Confidence.CERTAIN
    assert resolution.resolve(installed(), ModelRef(name=str(tmp_path))).name == "cross-encoder"


def test_weights_are_certain_only_by_the_names_that_loading_reads(tmp_path):
    pytest.importorskip("torch")
    from rerank_crossencoder.backend import _WEIGHTS
    from rerank_torch.loading import PICKLED_WEIGHTS, SAFE_WEIGHTS

    assert {*SAFE_WEIGHTS, *PICKLED_WEIGHTS} == _WEIGHTS
    config = {"architectures": ["BertForSequenceClassification"], "num_labels": 1}
    found = claim(tmp_path, config, "training_args.bin", "onnx/model.onnx", "tokenizer.json")
    assert found.confidence == Confidence.LIKELY  # not a tie with the backend of the graph
    assert "under a name that transformers does not read" in found.reason


@pytest.mark.parametrize(
    ("name", "lang", "model", "options"),
    [
        ("cross-encoder", "en", "mixedbread-ai/mxbai-rerank-base-v1", {}),
        ("cross-encoder", "fr", "antoinelouis/crossencoder-camembert-base-mmarcoFR", {}),
        ("cross-encoder", "zh", "BAAI/bge-reranker-base", {"max_length": 512}),
        ("cross-encoder", "de", "corrius/cross-encoder-mmarco-mMiniLMv2-L12-H384-v1", {}),
        ("bge-reranker-base", "en", "BAAI/bge-reranker-base", {"max_length": 512}),
        ("bge-reranker-large", "zh", "BAAI/bge-reranker-large", {"max_length": 512}),
        ("bge-reranker-v2-m3", "en", "BAAI/bge-reranker-v2-m3", {"max_length": 1024}),
        ("bge-reranker-v2-m3", "fr", "BAAI/bge-reranker-v2-m3", {"max_length": 1024}),
    ],
)
def test_short_names(name, lang, model, options):
    registry = Registry()
    for described in backend.rerank_register_backends():
        registry.register(described)
    chosen, found, defaults = resolution.select(registry, ModelRef(name=name, lang=lang))
    assert (chosen.name, found.name, found.alias, defaults) == ("cross-encoder", model, name, options)
    assert backend.claim(found).confidence == Confidence.CERTAIN  # by name: nothing is read


def test_describing_imports_nothing_heavy():
    code = (
        "import sys; from rerank.registry import installed; assert 'cross-encoder' in installed().backends; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_unknown_options_name_the_near_miss():
    with pytest.raises(InvalidOptionsError, match="did you mean 'device'"):
        parse_options(CrossEncoderOptions, {"devcie": "cuda"}, "cross-encoder")


def test_what_the_doctor_shows_of_this_machine():
    import torch

    found = find_accelerators()
    assert len([name for name in found if name.startswith("cuda:")]) == torch.cuda.device_count()
    assert ("mps" in found) == torch.backends.mps.is_available()


@pytest.mark.parametrize(
    ("labels", "sign"),
    [(("irrelevant", "relevant"), 1), (("entailment", "not_entailment"), -1), (("LABEL_0", "LABEL_1"), 1)],
)
def test_two_labels_are_read_by_name(checkpoint, tmp_path, labels, sign):
    plain = checkpoint("bert", num_labels=2)
    shutil.copytree(plain, tmp_path / "named")
    config = json.loads((plain / "config.json").read_text())
    config |= {"id2label": dict(enumerate(labels)), "label2id": {name: place for place, name in enumerate(labels)}}
    (tmp_path / "named" / "config.json").write_text(json.dumps(config))
    with Reranker(tmp_path / "named", device="cpu") as reranker, Reranker(plain, device="cpu") as unnamed:
        for text in DOCUMENTS[:3]:
            assert reranker.score(QUERY, text) == pytest.approx(sign * unnamed.score(QUERY, text), abs=1e-5)


def test_two_labels_that_say_nothing_are_refused(checkpoint):
    with pytest.raises(ModelLoadError, match="'cats' and 'dogs', and which of them means relevant is unknown"):
        Reranker(checkpoint("bert", num_labels=2, id2label={0: "cats", 1: "dogs"}), device="cpu")


def test_a_model_out_of_reach_fails_before_torch_is_imported(tmp_path):
    code = (
        "import sys, rerank\n"
        f"try: rerank.Reranker('cross-encoder', local_files_only=True, cache_dir={str(tmp_path)!r})\n"
        "except rerank.ModelLoadError as error: print(error)\n"
        "print({'torch', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, imported = done.stdout.splitlines()
    assert ", which 'cross-encoder' stands for, is not in the cache" in message
    assert imported == "set()"
