"""Which models the backend claims, with which confidence and why, and what ``rerank explain`` reports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rerank import BackendNotFoundError, Confidence, ModelRef, Reranker
from rerank.cli import cli
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_onnx import backend
from rerank_onnx.options import FLASHRANK
from rerank_vectors import default_folder

CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}


@pytest.fixture
def claim(tmp_path):
    """The claim on a folder of these files with this configuration."""

    def ask(*files, config=None):
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        return backend.claim(ModelRef(str(tmp_path)))

    return ask


@pytest.mark.parametrize("name", FLASHRANK)
def test_flashranks_names_are_certain_and_ask_nobody(hub, name):
    confidence, reason = backend.claim(ModelRef(name))
    assert (confidence, reason) == (Confidence.CERTAIN, "one of FlashRank's models")
    assert not hub.seen


@pytest.mark.parametrize("config", [None, CLASSIFIER, {"architectures": ["XLMRobertaForSequenceClassification"]}])
def test_a_graph_alone_is_certain(claim, config):
    confidence, reason = claim("onnx/model.onnx", "tokenizer.json", config=config)
    assert confidence == Confidence.CERTAIN
    assert reason == "onnx/model.onnx, and no torch weights"


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_torch_weights_beside_make_it_likely(claim, weights):
    confidence, reason = claim("onnx/model.onnx", "tokenizer.json", weights, config=CLASSIFIER)
    assert confidence == Confidence.LIKELY
    assert "torch weights beside" in reason


def test_an_encoder_is_possible(claim):
    confidence, reason = claim("model.onnx", "tokenizer.json", config={"architectures": ["BertModel"]})
    assert confidence == Confidence.POSSIBLE
    assert "BertModel" in reason
    assert "late interaction" in reason


def test_an_encoder_that_says_how_to_score_is_certain(claim):
    config = {"architectures": ["BertModel"], "late_interaction": {"query_tokens": 48}}
    assert claim("model.onnx", "tokenizer.json", config=config).confidence == Confidence.CERTAIN


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (("model.safetensors", "tokenizer.json"), "no .onnx file"),
        (("model.onnx",), "no tokenizer.json"),
        ((), "no .onnx file"),
    ],
)
def test_what_cannot_run_is_not_claimed(claim, files, reason):
    confidence, claimed = claim(*files, config=CLASSIFIER)
    assert confidence == Confidence.NONE
    assert reason in claimed


def test_an_encoder_runs_where_the_backend_is_named(toy):
    model = toy(kind="encoder", config={"architectures": ["BertModel"]})
    with pytest.raises(BackendNotFoundError, match="onnx"):
        Reranker(model.folder)
    assert len(Reranker(model.folder, backend="onnx").rank(QUERY, DOCUMENTS)) == len(DOCUMENTS)


@pytest.mark.parametrize(
    "name",
    [
        "cross-encoder/ms-marco-MiniLM-L-12-v2",
        "cross-encoder/ms-marco-TinyBERT-L-2-v2",
        "jinaai/jina-reranker-v2-base-multilingual",
        "Xenova/ms-marco-MiniLM-L-12-v2-finetuned",
    ],
)
def test_names_like_a_known_one_are_read_not_guessed(hub, name):
    hub.add(name, {"config.json": json.dumps(CLASSIFIER), "model.safetensors": b"", "tokenizer.json": "{}"})
    assert backend.claim(ModelRef(name)).confidence == Confidence.NONE
    assert hub.count(f"/api/models/{name}") == 1


def test_a_repository_is_claimed_by_its_listing(hub):
    hub.add("someone/reranker", {"onnx/model.onnx": b"", "tokenizer.json": "{}", "config.json": json.dumps(CLASSIFIER)})
    assert backend.claim(ModelRef("someone/reranker")).confidence == Confidence.CERTAIN
    assert hub.count(".onnx") == 0


def explained(folder):
    done = CliRunner().invoke(cli, ["explain", str(folder), "--json"])
    claims = {claim["backend"]: claim for claim in json.loads(done.stdout)["claims"]}
    return claims["onnx"]["reason"]


def test_explain_says_that_dynamic_quantisation_moves_scores(toy):
    model = toy(dynamic=True)
    reason = explained(model.folder)
    assert "dynamic int8 in model.onnx" in reason
    assert "batch_size=1" in reason
    assert "dynamic" not in explained(toy().folder)


def test_the_warning_is_true_and_so_is_the_remedy(toy):
    """One scale per batch changes scores; one document per batch keeps them the same."""
    reranker = Reranker(toy(dynamic=True).folder, threads=1, max_batch_tokens=10_000)  # all in one batch
    alone = {text: reranker.score(QUERY, text) for text in DOCUMENTS}
    together = {r.text: r.score for r in reranker.rank(QUERY, DOCUMENTS)}
    assert together != pytest.approx(alone, abs=1e-5)
    apart = {r.text: r.score for r in reranker.rank(QUERY, DOCUMENTS, batch_size=1)}
    assert apart == pytest.approx(alone, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_explain_knows_the_usual_quantisation(toy, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    model = toy()
    quantized = model.folder / "model_quantized.onnx"
    quantization.quantize_dynamic(model.folder / "model.onnx", quantized)
    assert "dynamic int8 in model_quantized.onnx" in explained(model.folder)
    for preferred, name in ((True, "model_quantized.onnx"), (False, "model.onnx")):
        reranker = Reranker(model.folder, quantized=preferred)
        assert reranker.scorer.graph.session._model_path == str(model.folder / name)
        assert len(reranker.rank(QUERY, DOCUMENTS)) == len(DOCUMENTS)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64])
def test_explain_reads_damaged_graphs_without_harm(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    (tmp_path / "tokenizer.json").touch()
    assert "model.onnx" in explained(tmp_path)


def test_describing_imports_nothing_heavy():
    probe = (
        "import sys; from rerank.registry import installed; assert 'onnx' in installed().backends;"
        "print({'torch', 'transformers', 'onnxruntime', 'numpy', 'tokenizers', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_scoring_imports_neither_torch_nor_transformers(cross_encoder):
    probe = (
        "import sys; from rerank import Reranker; Reranker(sys.argv[1]).score('a', 'b');"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", probe, str(cross_encoder.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_doctor_shows_of_this_machine(hub):
    import onnxruntime
    from huggingface_hub.constants import HF_HOME

    assert backend.devices() == {"onnxruntime": ", ".join(onnxruntime.get_available_providers())}
    assert backend.caches() == {
        "unpacked archives": Path(HF_HOME) / "rerank-onnx",
        "document vectors": default_folder(),
    }
