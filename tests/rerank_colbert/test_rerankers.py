"""The same folder through the ColBERTRanker of AnswerDotAI's rerankers, for queries that grow; `nox -s colbert_ai` installs it.

It differs in what this comparison leaves out. It divides the sum by the number of the query's own tokens, which changes
no order; here its scores are multiplied again. It compares punctuation, so the checkpoint says the same. It reads
documents as far as the model does, whatever the checkpoint's length, so that length is given as an option.
"""

from __future__ import annotations

import pytest
import torch
import transformers
from checkpoints import LIMIT, METADATA, QUERIES, TEXTS, save_stanford

colbert_ranker = pytest.importorskip("rerankers.models.colbert_ranker", reason="needs rerankers: nox -s colbert_ai")
if transformers.__version__ >= "5":
    pytest.skip("its model class is written for transformers 4: nox -s colbert_ai", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("default")

NINE_TO_SIXTEEN = "which bees feed the larvae of a hive"
"""With its special tokens as many, so that it is filled to a multiple of 16 and not by eight."""


def test_queries_that_grow(tmp_path, ours, same):
    folder = save_stanford(tmp_path, metadata={**METADATA, "dim": 128, "mask_punctuation": False})
    theirs = colbert_ranker.ColBERTRanker(str(folder), dtype=torch.float32, device="cpu", verbose=0)
    queries, expected = [*QUERIES, NINE_TO_SIXTEEN], []
    for query in queries:
        found = {result.doc_id: result.score for result in theirs.rank(query, TEXTS).results}
        own_tokens = theirs._query_encode([query])["attention_mask"].sum().item()
        expected.append([found[index] * own_tokens for index in range(len(TEXTS))])
    same(ours(folder, queries, TEXTS, augmentation="dynamic", max_length=LIMIT - 2), expected)
