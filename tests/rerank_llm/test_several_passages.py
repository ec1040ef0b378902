"""Models that read several passages, from their names through rerank-listwise to a ranking."""

from __future__ import annotations

from pathlib import Path

import pytest
from language_models import save_t5

from rerank import InvalidOptionsError, Reranker, installed
from rerank.cli import main
from rerank.testing.contract import DOCUMENTS, QUERY


def test_every_model_brings_a_generator() -> None:
    options = installed().backends["llm-listwise"].options
    assert {"device", "dtype", "instruction", "base_url"} <= options.model_fields.keys()
    assert installed().backends["llm-listwise"].read_notes()[1:] != []


def test_a_folder_of_a_known_name_is_ranked(tmp_path: Path) -> None:
    with Reranker(str(save_t5(tmp_path / "LiT5-Score-base")), max_new_tokens=8) as reranker:
        assert reranker.backend == "llm-listwise"
        ranked = reranker.rank(QUERY, DOCUMENTS)
    assert ranked.scale == "similarity"
    assert sorted(result.index or 0 for result in ranked) == list(range(len(DOCUMENTS)))


def test_pairs_are_compared_and_graded_algorithms_refused(tmp_path: Path) -> None:
    with Reranker(str(save_t5(tmp_path / "duot5-base-msmarco"))) as reranker:
        ranked = reranker.rank(QUERY, DOCUMENTS[:4])
        assert (ranked.diagnostics["calls"], ranked.diagnostics["rounds"], ranked.scale) == (12, 1, "ordinal")
        with pytest.raises(InvalidOptionsError, match="grades passages"):
            reranker.rank(QUERY, DOCUMENTS, algorithm="one-pass")


@pytest.mark.parametrize(
    ("model", "generator", "shown"),
    [
        (
            "castorini/LiT5-Distill-base-v2",
            "lit5-distill",
            '" Passage: The giant panda is a bear of China. Relevance Ranking: "',
        ),
        ("castorini/duot5-base-msmarco", "duot5", '" Document0: The giant panda is a bear of China."'),
        ("jinaai/jina-reranker-v3", "jina", "The giant panda is a bear of China.<|embed_token|>"),
    ],
)
def test_explain_shows_what_such_a_model_reads(
    model: str, generator: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as ended:
        main(["explain", model])
    assert not ended.value.code
    lines = capsys.readouterr().out
    assert f"generator: {generator}," in lines
    assert shown in lines
