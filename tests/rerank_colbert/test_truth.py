"""Scores beside a plain computation: one text at a time, without padding, with transformers' own tokenizer and model."""

from __future__ import annotations

import shutil
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import METADATA, QUERIES, TEXTS, save_pylate, save_sentence_transformers, save_stanford  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from rerank import Reranker  # noqa: E402

MASKS = ("[MASK]", "<mask>")


class Plain:
    """A checkpoint of one projection, run text by text.

    Args:
        folder: The checkpoint.
        weights: The file with the projection's ``linear.weight``.
    """

    def __init__(self, folder: Path, weights: str) -> None:
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        self.encoder = transformers.AutoModel.from_pretrained(folder).eval()
        self.projection = load_file(folder / weights)["linear.weight"]

    def ids(self, text: str, marker: int, length: int) -> list[int]:
        first, *middle, last = self.tokenizer(text)["input_ids"]
        return [first, marker, *middle[: length - 3], last]

    def vectors(self, ids: Sequence[int], unattended: int = 0) -> Any:
        mask = torch.tensor([[1] * (len(ids) - unattended) + [0] * unattended])
        with torch.no_grad():
            hidden = self.encoder(input_ids=torch.tensor([ids]), attention_mask=mask).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden @ self.projection.T, dim=-1)

    def scores(
        self,
        query: str,
        texts: Sequence[str],
        markers: Sequence[str],
        lengths: tuple[int, int],
        *,
        attends: bool = False,
    ) -> list[float]:
        query_marker, document_marker = self.tokenizer.convert_tokens_to_ids(list(markers))
        ids = self.ids(query, query_marker, lengths[0])
        mask = next(token for name in MASKS if (token := self.tokenizer.get_vocab().get(name)) is not None)
        added = lengths[0] - len(ids)
        query_vectors = self.vectors([*ids, *[mask] * added], 0 if attends else added)
        skipped = {self.tokenizer.get_vocab().get(mark) for mark in string.punctuation}
        found = []
        for text in texts:
            own = self.ids(text, document_marker, lengths[1])
            vectors = self.vectors(own)[[token not in skipped for token in own]]
            found.append(sum(max(float(q @ d) for d in vectors) for q in query_vectors))
        return found


def by_index(ranked: Any) -> list[float]:
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


@pytest.mark.parametrize("attends", [False, True])
def test_stanford_layout(tmp_path: Path, attends: bool) -> None:
    folder = save_stanford(tmp_path / "model", metadata={**METADATA, "attend_to_mask_tokens": attends})
    plain = Plain(folder, "model.safetensors")
    with Reranker(folder) as reranker:
        for query in QUERIES:
            expected = plain.scores(query, TEXTS, ("[unused0]", "[unused1]"), (32, 60), attends=attends)
            ranked = reranker.rank(query, TEXTS)
            assert by_index(ranked) == pytest.approx(expected, abs=1e-4)
            assert max(expected) - min(expected) > 0.1


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert"])
def test_pylate_layout(tmp_path: Path, kind: str) -> None:
    folder = save_pylate(tmp_path / "model", kind)
    plain = Plain(folder, "1_Dense/model.safetensors")
    with Reranker(folder) as reranker:
        for query in QUERIES:
            expected = plain.scores(query, TEXTS, ("[Q] ", "[D] "), (32, 60))
            assert by_index(reranker.rank(query, TEXTS)) == pytest.approx(expected, abs=1e-4)


def test_an_encoder_without_training_compares_the_vectors_of_words(tmp_path: Path) -> None:
    trained = save_stanford(tmp_path / "trained")
    plain = Plain(trained, "model.safetensors")
    folder = shutil.copytree(trained, tmp_path / "model")
    (folder / "artifact.metadata").unlink()
    plain.encoder.save_pretrained(folder)  # not over the file that its weights may still be mapped from
    plain.projection = torch.eye(plain.encoder.config.hidden_size)

    marks = set(plain.tokenizer.convert_tokens_to_ids(list(string.punctuation)))

    def words(text: str) -> Any:
        first, *own, last = plain.tokenizer(text)["input_ids"]
        compared = [False, *(token not in marks for token in own), False]
        vectors = plain.vectors([first, *own, last])
        return vectors[compared] if any(compared) else vectors

    texts = [text for text in TEXTS if len(plain.tokenizer(text)["input_ids"]) <= 256]
    with Reranker(folder, backend="colbert") as reranker:
        for query in QUERIES[:2]:
            expected = [float((words(query) @ words(text).T).amax(dim=1).sum()) for text in texts]
            assert by_index(reranker.rank(query, texts)) == pytest.approx(expected, abs=1e-4)


def test_windows_read_all_of_a_document(tmp_path: Path) -> None:
    folder = save_stanford(tmp_path / "model")
    with Reranker(folder) as reranker:
        beginning, end = "Shares rose. " * 40, "Bees see ultraviolet patterns on petals."
        cut = reranker.rank(QUERIES[0], [beginning + end])
        whole = reranker.rank(QUERIES[0], [beginning + end], long_documents="chunk", window=20, overlap=8)
        assert cut.diagnostics["truncated"] == 1
        assert whole.diagnostics["truncated"] == 0
        assert whole[0].score > cut[0].score


def test_sentence_transformers_layout_without_normalisation(tmp_path: Path) -> None:
    folder = save_sentence_transformers(tmp_path / "model")
    with Reranker(folder) as reranker:
        unit = by_index(reranker.rank(QUERIES[0], TEXTS))
    modules = (folder / "modules.json").read_text(encoding="utf-8")
    (folder / "modules.json").write_text(
        modules.replace("normalize.Normalize", "layer_norm.LayerNorm"), encoding="utf-8"
    )
    from checkpoints import write_json
    from safetensors.torch import save_file

    write_json(folder / "3_Normalize" / "config.json", {"dimension": 24, "module_input_name": "token_embeddings"})
    save_file({"norm.weight": torch.ones(24), "norm.bias": torch.zeros(24)}, folder / "3_Normalize/model.safetensors")
    with Reranker(folder) as reranker:
        longer = by_index(reranker.rank(QUERIES[0], TEXTS))
    assert all(other > 5 * own for own, other in zip(unit, longer))  # a layer norm's vectors have a length of 24 ** 0.5
