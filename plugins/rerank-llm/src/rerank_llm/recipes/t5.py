"""Rerankers on T5: monoT5 and its descendants, RankT5, and the likelihood of the query (UPR)."""

from __future__ import annotations

from typing import Any, Final

from rerank_llm.recipe import Recipe

_MONO: Final[dict[str, Any]] = {
    "kind": "t5",
    "pieces": ("Query: {query} Document: {document}", " Relevant:"),
    "ends": True,
    "max_length": 512,
}
_PYGAGGLE: Final = "castorini/pygaggle, pygaggle/model/tokenize.py; terrierteam/pyterrier_t5 for where it cuts"
_RERANKERS: Final = "AnswerDotAI rerankers 0.10.0, models/t5ranker.py"


def _names(base: str, *ends: str) -> tuple[str, ...]:
    return tuple(f"{base}-{end}" for end in ends)


RECIPES: Final = (
    Recipe(
        name="monot5",
        source=_PYGAGGLE,
        true="▁true",
        false="▁false",
        ids={"▁true": 1176, "▁false": 6136},
        vocabulary=32_100,
        models=("castorini/monot5-*", "unicamp-dl/InRanker-*", "Dundalia/TWOLAR-*"),
        **_MONO,
    ),
    Recipe(
        name="mt5",
        source=_RERANKERS,
        true="▁yes",
        false="▁no",
        models=_names(
            "unicamp-dl/mt5-base", "en-msmarco", "en-pt-msmarco-v1", "en-pt-msmarco-v2", "mmarco-v1", "mmarco-v2"
        ),
        **_MONO,
    ),
    Recipe(
        name="mt5-3b",
        source=_RERANKERS,
        true="▁true",
        false="▁",
        models=("unicamp-dl/mt5-3B-mmarco-en-pt", "unicamp-dl/mt5-13b-mmarco-100k"),
        **_MONO,
    ),
    Recipe(
        name="ptt5",
        source=_RERANKERS,
        true="▁sim",
        false="▁não",
        models=_names(
            "unicamp-dl/ptt5-base",
            "pt-msmarco-10k-v1",
            "pt-msmarco-10k-v2",
            "pt-msmarco-100k-v1",
            "pt-msmarco-100k-v2",
            "en-pt-msmarco-10k-v1",
            "en-pt-msmarco-100k-v2",
        ),
        **_MONO,
    ),
    Recipe(
        name="monoptt5",
        source=_RERANKERS,
        true="▁Sim",
        false="▁Não",
        models=("unicamp-dl/monoptt5-*",),
        **_MONO,
    ),
    Recipe(
        name="rankt5",
        source="soyoung97/ListT5, run_monot5_rankt5.py; arXiv 2210.10634",
        kind="t5",
        pieces=("Query: {query} Document: {document}",),
        ends=True,
        true="<extra_id_10>",
        ids={"<extra_id_10>": 32_089},
        vocabulary=32_100,
        max_length=512,
        models=("Soyoung97/RankT5-*",),
    ),
    Recipe(
        name="upr",
        source="arXiv 2204.07496",
        kind="t5-likelihood",
        pieces=("Passage: {document}. Please write a question based on this passage.",),
        ends=True,
        max_length=512,
        query_max_length=128,
    ),
)
