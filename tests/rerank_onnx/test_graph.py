"""Sessions follow the options, and errors list the choices for a wrong option."""

from __future__ import annotations

import onnxruntime
import pytest

from rerank import InvalidOptionsError, Reranker
from rerank.testing.contract import DOCUMENTS, QUERY


def session_of(reranker):
    return reranker.scorer.graph.session


def intra_op_threads_of(reranker):
    return session_of(reranker).get_session_options().intra_op_num_threads


@pytest.mark.parametrize(("threads", "streams"), [(None, 3), (2, 2), (8, 3)])
def test_a_stream_per_core_each_with_one_thread(cross_encoder, monkeypatch, threads, streams):
    monkeypatch.setattr("rerank_onnx.graph.available_cores", lambda: 3)
    with Reranker(cross_encoder.folder, threads=threads) as reranker:
        assert intra_op_threads_of(reranker) == 1
        assert reranker.scorer.graph._streams.count == streams


def test_a_thread_pool_that_the_user_wants_replaces_the_streams(cross_encoder):
    with Reranker(cross_encoder.folder, session_options={"intra_op_num_threads": 2}) as reranker:
        assert intra_op_threads_of(reranker) == 2
        assert reranker.scorer.graph._streams is None
        expected = cross_encoder.pair(QUERY, DOCUMENTS[0])
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-5)


def test_session_options_are_set(cross_encoder, tmp_path):
    wanted = {
        "inter_op_num_threads": 1,
        "enable_mem_pattern": False,
        "enable_cpu_mem_arena": False,
        "log_severity_level": 3,
        "graph_optimization_level": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "optimized_model_filepath": str(tmp_path / "optimized.onnx"),
        "session.intra_op.allow_spinning": 0,
    }
    reranker = Reranker(cross_encoder.folder, session_options=wanted)
    given = session_of(reranker).get_session_options()
    for name, value in wanted.items():
        found = given.get_session_config_entry(name) if "." in name else getattr(given, name)
        assert found == (str(value) if "." in name else value)
    assert (tmp_path / "optimized.onnx").is_file()
    expected = cross_encoder.pair(QUERY, DOCUMENTS[0])
    assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["intra_op_threads", "add_session_config_entry", "__class__", "_x"])
def test_an_unknown_session_option_lists_the_known(cross_encoder, name):
    with pytest.raises(InvalidOptionsError, match=rf"{name}.*choose one of .*intra_op_num_threads"):
        Reranker(cross_encoder.folder, session_options={name: 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [("intra_op_num_threads", "two"), ("graph_optimization_level", "all"), ("session.load_model_format", "x" * 10_000)],
)
def test_a_session_option_of_the_wrong_kind_is_named(cross_encoder, name, value):
    with pytest.raises(InvalidOptionsError, match=name):
        Reranker(cross_encoder.folder, session_options={name: value})


@pytest.mark.parametrize("provider", ["CpuExecutionProvider", ("NonsenseExecutionProvider", {"device_id": 0})])
def test_an_unknown_provider_lists_the_known(cross_encoder, provider):
    with pytest.raises(InvalidOptionsError, match=r"ExecutionProvider.*choose one of .*CPUExecutionProvider"):
        Reranker(cross_encoder.folder, providers=[provider])


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", ("CPUExecutionProvider", {})])
def test_providers_are_set(cross_encoder, provider):
    reranker = Reranker(cross_encoder.folder, providers=[provider])
    assert session_of(reranker).get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("option", "value"),
    [("threads", 1), ("providers", ["CPUExecutionProvider"]), ("session_options", {}), ("file_name", "model.onnx")],
)
def test_what_a_session_is_built_with_cannot_change_for_one_call(cross_encoder, option, value):
    reranker = Reranker(cross_encoder.folder)
    with pytest.raises(InvalidOptionsError, match="fixed when the model loads"):
        reranker.rank(QUERY, DOCUMENTS, **{option: value})


@pytest.mark.parametrize(("option", "value"), [("threads", 0), ("max_length", 7), ("query_max_length", 0)])
def test_values_out_of_range_are_named(cross_encoder, option, value):
    with pytest.raises(InvalidOptionsError, match=option):
        Reranker(cross_encoder.folder, **{option: value})


def test_no_logging_is_configured(cross_encoder):
    import logging

    before = logging.getLogger().handlers[:], logging.getLogger().level
    Reranker(cross_encoder.folder).rank(QUERY, DOCUMENTS)
    assert (logging.getLogger().handlers, logging.getLogger().level) == before
