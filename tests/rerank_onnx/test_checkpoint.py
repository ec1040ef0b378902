"""Which files of a folder form the model, and the errors for missing and damaged ones."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest

from rerank import InvalidOptionsError, ModelLoadError, ModelRef, Reranker, ScoringError
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_onnx.checkpoint import find_checkpoint
from rerank_onnx.options import OnnxOptions


@pytest.fixture
def layout(tmp_path):
    """Makes a folder with these files, and says which graph is chosen of it."""

    def choose(*files, **options):
        for file in [*files, "tokenizer.json"]:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_bytes(b"{}" if file.endswith(".json") else b"")
        found = find_checkpoint(ModelRef(str(tmp_path)), OnnxOptions(**options))
        return found.graph.relative_to(tmp_path).as_posix()

    return choose


SENTENCE_TRANSFORMERS = (
    "onnx/model.onnx",
    "onnx/model_O1.onnx",
    "onnx/model_O4.onnx",
    "onnx/model_qint8_arm64.onnx",
    "onnx/model_qint8_avx512.onnx",
    "onnx/model_qint8_avx512_vnni.onnx",
    "onnx/model_quint8_avx2.onnx",
)


def test_the_plain_graph_comes_first(layout):
    assert layout(*SENTENCE_TRANSFORMERS, "onnx/model_q4.onnx", "onnx/model_bnb4.onnx") == "onnx/model.onnx"


def test_the_outermost_graph_comes_first(layout):
    assert layout("model.onnx", "onnx/model.onnx") == "model.onnx"


@pytest.mark.parametrize(
    ("machine", "graph"),
    [("x86_64", "onnx/model_quint8_avx2.onnx"), ("AMD64", "onnx/model_quint8_avx2.onnx")]
    + [(arm, "onnx/model_qint8_arm64.onnx") for arm in ("aarch64", "arm64")],
)
def test_a_quantised_graph_suits_the_machine(layout, monkeypatch, machine, graph):
    monkeypatch.setattr("platform.machine", lambda: machine)
    files = [file for file in SENTENCE_TRANSFORMERS if "avx512" not in file]
    assert layout(*files, quantized=True) == graph
    assert layout(*files) == "onnx/model.onnx"


def test_without_a_plain_graph_a_quantised_one_is_taken_and_the_reverse(layout):
    assert layout("onnx/model_quantized.onnx") == "onnx/model_quantized.onnx"


def test_without_a_quantised_graph_the_plain_one_is_taken(layout):
    assert layout("onnx/model.onnx", quantized=True) == "onnx/model.onnx"


def test_a_graph_for_another_machine_is_better_than_none(layout, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert layout("model_quint8_avx2.onnx", quantized=True) == "model_quint8_avx2.onnx"


@pytest.mark.parametrize("name", ["onnx/model_O4.onnx", "model_O4.onnx"])
def test_a_file_by_name(layout, name):
    assert layout(*SENTENCE_TRANSFORMERS, file_name=name) == "onnx/model_O4.onnx"


def test_a_wrong_file_name_lists_the_right_ones(toy):
    model = toy(file="onnx/model.onnx")
    with pytest.raises(InvalidOptionsError, match=r"'model_q8\.onnx'.*choose one of onnx/model\.onnx"):
        Reranker(model.folder, file_name="model_q8.onnx")


def test_the_tokenizer_nearest_the_graph_counts(tmp_path):
    (tmp_path / "onnx").mkdir()
    for file in ("model.onnx", "tokenizer.json", "onnx/other.onnx", "onnx/tokenizer.json"):
        (tmp_path / file).touch()
    inner = find_checkpoint(ModelRef(str(tmp_path)), OnnxOptions(file_name="onnx/other.onnx"))
    assert inner.tokenizer == tmp_path / "onnx/tokenizer.json"
    assert find_checkpoint(ModelRef(str(tmp_path)), OnnxOptions()).tokenizer == tmp_path / "tokenizer.json"


def test_a_graph_in_a_folder_of_its_own(toy, cross_encoder):
    model = toy(file="onnx/model.onnx")
    assert Reranker(model.folder).score(QUERY, DOCUMENTS[0]) == pytest.approx(
        cross_encoder.pair(QUERY, DOCUMENTS[0]), abs=1e-5
    )


@pytest.mark.parametrize("external", ["model.onnx_data", "model.onnx.data"])
def test_weights_beside_the_graph(toy, external):
    model = toy(external=external, seed=3)
    assert (model.folder / external).stat().st_size > 0
    assert Reranker(model.folder).score(QUERY, DOCUMENTS[0]) == pytest.approx(model.pair(QUERY, DOCUMENTS[0]), abs=1e-5)


def test_the_configurations_of_the_checkpoint_are_read(toy):
    model = toy(config={"max_position_embeddings": 64})
    (model.folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 40}))
    assert Reranker(model.folder).scorer.limits.longest == 40


@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.99])
def test_a_damaged_graph_is_named(toy, kept):
    model = toy()
    graph = model.folder / "model.onnx"
    content = graph.read_bytes()
    graph.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ModelLoadError, match=r"model\.onnx cannot be read as a graph"):
        Reranker(model.folder)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "Nonsense"}}'])
def test_a_damaged_tokenizer_is_named(toy, content):
    model = toy()
    (model.folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json is not a tokenizer"):
        Reranker(model.folder)


def test_a_truncated_tokenizer_is_named(toy):
    model = toy()
    file = model.folder / "tokenizer.json"
    file.write_text(file.read_text()[:-200])
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json is not a tokenizer"):
        Reranker(model.folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ['{"a": ', "[1]", "\xff"])
def test_a_damaged_configuration_is_named(toy, file, content):
    model = toy()
    (model.folder / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelLoadError, match=file.replace(".", r"\.")):
        Reranker(model.folder, backend="onnx")


def test_a_missing_tokenizer_is_named(toy):
    model = toy()
    (model.folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"no tokenizer\.json beside model\.onnx"):
        Reranker(model.folder, backend="onnx")


def test_missing_weights_beside_the_graph_are_named(toy):
    model = toy(external="model.onnx_data")
    (model.folder / "model.onnx_data").unlink()
    with pytest.raises(ModelLoadError, match=r"model\.onnx_data"):
        Reranker(model.folder)


def test_a_folder_without_a_graph_says_so(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ModelLoadError, match=r"no \.onnx file"):
        Reranker(tmp_path, backend="onnx")


def test_a_graph_that_wants_more_than_a_text_gives(toy):
    model = toy(inputs=("input_ids", "attention_mask", "pixel_values", "bbox"))
    with pytest.raises(ModelLoadError, match=r"needs the inputs bbox, pixel_values"):
        Reranker(model.folder)


def test_three_labels_are_no_reranker(toy):
    with pytest.raises(ModelLoadError, match="one or two numbers per row"):
        Reranker(toy(labels=3).folder)


def test_three_labels_that_the_graph_does_not_declare_are_no_reranker(cross_encoder, monkeypatch):
    reranker = Reranker(cross_encoder.folder)
    session = reranker.scorer.graph.session
    monkeypatch.setattr(
        session, "run", lambda outputs, feed, options=None: [np.zeros((len(feed["input_ids"]), 3), np.float32)]
    )
    with pytest.raises(ScoringError, match="3 numbers per row"):
        reranker.rank(QUERY, DOCUMENTS)


def test_a_pickle_loads_again_from_the_folder(toy, tmp_path):
    model = toy()
    packed = pickle.dumps(Reranker(model.folder, threads=1))
    shutil.move(model.folder / "model.onnx", tmp_path / "model.onnx")
    with pytest.raises(ModelLoadError):
        pickle.loads(packed).rank(QUERY, DOCUMENTS)
    shutil.move(tmp_path / "model.onnx", model.folder / "model.onnx")
    again = pickle.loads(packed)
    assert again.options.threads == 1
    assert len(again.rank(QUERY, DOCUMENTS)) == len(DOCUMENTS)
