"""Which checkpoints the backend claims and how it reads them, the contract of a backend, and bad input."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import (  # noqa: E402
    METADATA,
    QUERIES,
    TEXTS,
    change_json,
    save_pylate,
    save_sentence_transformers,
    save_stanford,
    write_json,
)
from safetensors.torch import load_file, save_file  # noqa: E402

from rerank import Confidence, InvalidOptionsError, ModelLoadError, ModelRef, Reranker  # noqa: E402
from rerank.registry import installed  # noqa: E402
from rerank.resolution import select  # noqa: E402
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract  # noqa: E402
from rerank_colbert.backend import claim, describe  # noqa: E402
from rerank_colbert.options import ColbertOptions  # noqa: E402
from rerank_torch.runner import Runner  # noqa: E402


@pytest.fixture(scope="module")
def stanford(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_stanford(tmp_path_factory.mktemp("stanford") / "model")


@pytest.fixture(scope="module")
def pylate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pylate(tmp_path_factory.mktemp("pylate") / "model", "modernbert")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that was never trained for late interaction."""
    folder = save_stanford(tmp_path_factory.mktemp("encoder") / "model")
    (folder / "artifact.metadata").unlink()
    change_json(folder / "config.json", architectures=["BertModel"])
    return folder


BETTER = (QUERY, QUERY, DOCUMENTS[1])
"""Whatever the weights are, a text is like itself."""


class TestStanford(BackendContract):
    better = BETTER

    @pytest.fixture
    def reranker(self, stanford: Path) -> Reranker:
        return Reranker(stanford)


class TestPylate(BackendContract):
    better = BETTER

    @pytest.fixture
    def reranker(self, pylate: Path) -> Reranker:
        return Reranker(pylate, vectors="memory")


class TestZeroShot(BackendContract):
    better = BETTER

    @pytest.fixture
    def reranker(self, encoder: Path) -> Reranker:
        return Reranker(encoder, backend="colbert")


def test_layouts_are_claimed_and_plain_encoders_only_if_asked_for(
    stanford: Path, pylate: Path, encoder: Path, tmp_path: Path
) -> None:
    third = save_sentence_transformers(tmp_path / "model")
    for folder in (stanford, pylate, third):
        assert claim(ModelRef(str(folder))).confidence is Confidence.CERTAIN
        assert Reranker(folder).backend == "colbert"
    assert claim(ModelRef(str(encoder))).confidence is Confidence.POSSIBLE


def test_an_encoder_that_names_its_width_otherwise_ranks_zero_shot(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "model")
    size = json.loads((encoder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    config = transformers.DistilBertConfig(vocab_size=size, dim=32, n_layers=2, n_heads=4, hidden_dim=48)
    transformers.DistilBertModel(config).save_pretrained(folder)
    with Reranker(folder, backend="colbert", vectors="memory") as reranker:
        assert len(reranker.rank(QUERIES[0], TEXTS)) == len(TEXTS)


def test_an_encoder_reads_the_prompts_that_it_saved(encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "model")
    prompts = {"query": "query: ", "document": "text: "}
    settings = {"prompts": prompts, "default_prompt_name": "query"}
    write_json(folder / "config_sentence_transformers.json", settings)
    write_json(
        folder / "modules.json",
        [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
    )
    with Reranker(folder, backend="colbert") as reranker, Reranker(encoder, backend="colbert") as bare:
        documents = TEXTS[:4]
        expected = [bare.score(f"query: {QUERIES[0]}", f"text: {text}") for text in documents]
        assert [reranker.score(QUERIES[0], text) for text in documents] == pytest.approx(expected, abs=1e-4)
    lines = "\n".join(describe(ModelRef(str(folder)), ColbertOptions()))
    assert "query: 'query: ' before it" in lines
    assert "document: 'text: ' before it" in lines
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": 3}})
    with pytest.raises(ModelLoadError, match=r"the prompt 'query' in .* is 3, no text"):
        Reranker(folder, backend="colbert").score(QUERIES[0], "bees")


@pytest.mark.parametrize("architecture", ["GPT2LMHeadModel", "T5EncoderModel", "OpenAIGPTDoubleHeadsModel"])
def test_what_is_no_encoder_is_not_claimed(tmp_path: Path, architecture: str) -> None:
    write_json(tmp_path / "config.json", {"architectures": [architecture]})
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert claim(ModelRef(str(tmp_path))).confidence is Confidence.NONE


def test_a_sequence_classifier_is_not_claimed(stanford: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"architectures": ["BertForSequenceClassification"]})
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert claim(ModelRef(str(tmp_path))).confidence is Confidence.NONE


@pytest.mark.parametrize(
    ("name", "lang", "model"),
    [
        ("colbert", "en", "colbert-ir/colbertv2.0"),
        ("colbert", "fr", "bclavie/FraColBERTv2"),
        ("colbert", "ja", "bclavie/JaColBERTv2"),
        ("colbert", "es", "AdrienB134/ColBERTv2.0-spanish-mmarcoES"),
        ("pylate", "en", "lightonai/GTE-ModernColBERT-v1"),
    ],
)
def test_short_names(name: str, lang: str, model: str) -> None:
    backend, found, _ = select(installed(), ModelRef(name, lang=lang))
    assert (backend.name, found.name) == ("colbert", model)


def test_model_type_names_the_backend(encoder: Path) -> None:
    assert Reranker(encoder, model_type="colbert").backend == "colbert"


def test_explain_shows_the_recipe(stanford: Path) -> None:
    lines = "\n".join(describe(ModelRef(str(stanford)), ColbertOptions()))
    assert "'[unused0]'" in lines
    assert "augmented to 32 (fixed)" in lines


def test_the_projections_width_comes_from_its_weights(tmp_path: Path) -> None:
    folder = save_stanford(tmp_path / "model", metadata={**METADATA, "dim": 96})
    change_json(folder / "artifact.metadata", dim=128)  # as answerai-colbert-small-v1 says of its 96
    assert len(Reranker(folder).rank(QUERIES[0], TEXTS)) == len(TEXTS)


def test_several_devices_agree_with_one(stanford: Path) -> None:
    with Reranker(stanford) as one, Reranker(stanford, devices=["cpu", "cpu"]) as two:
        expected = {r.index: r.score for r in one.rank(QUERIES[0], TEXTS)}
        assert {r.index: r.score for r in two.rank(QUERIES[0], TEXTS)} == pytest.approx(expected, abs=1e-5)


def test_rank_many_encodes_all_queries_in_one_call(stanford: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    run = Runner.__call__

    def counted(self: Runner, rows: Any, *arguments: Any) -> Any:
        calls.append(len(rows))
        return run(self, rows, *arguments)

    monkeypatch.setattr(Runner, "__call__", counted)
    with Reranker(stanford) as reranker:
        list(reranker.rank_many([(query, TEXTS) for query in QUERIES]))
    assert calls == [len(QUERIES), len(set(TEXTS))]


@pytest.mark.parametrize(
    ("augmentation", "query", "tokens"),
    [
        ("fixed", "bees", 32),
        ("none", "bees", 4),
        ("minimum", "bees", 32),
        ("dynamic", "bees", 12),
        ("minimum", "bees " * 40, 43),
        ("dynamic", "bees " * 40, 48),
        ("fixed", "bees " * 40, 32),
        ("none", "bees " * 40, 32),
    ],
)
def test_augmentation_fills_queries(stanford: Path, augmentation: str, query: str, tokens: int) -> None:
    with Reranker(stanford) as reranker:
        ranked = reranker.rank(query, ["A bee."], augmentation=augmentation, matches=True)
        assert len(ranked[0].details["matches"]) == tokens
        assert ranked.diagnostics["query_truncated"] == (tokens == 32 and len(query) > 10)


def test_a_query_that_is_cut_is_warned_about(stanford: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Reranker(stanford) as reranker:
        ranked = reranker.rank("bees " * 100, TEXTS)
        assert ranked.diagnostics["query_truncated"]
        assert "query_max_length" in caplog.text
        assert not reranker.rank("bees " * 100, TEXTS, query_max_length=120).diagnostics["query_truncated"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_length": 100_000}, "max_length"),
        ({"query_max_length": 100_000}, "^query_max_length"),
        ({"query_max_length": 3}, "query_max_length"),
        ({"augmentation": "some"}, "augmentation"),
        ({"matches": "heatmap"}, "matches"),
        ({"long_documents": "chunk", "window": 4}, "overlap"),
        ({"vectors": "disk"}, "vectors"),
        ({"normalize": True}, "normalize"),
    ],
)
def test_wrong_options_are_named(stanford: Path, options: dict[str, Any], named: str) -> None:
    with Reranker(stanford) as reranker, pytest.raises(InvalidOptionsError, match=named):
        reranker.rank(QUERIES[0], ["word " * 500], **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"similarity": "l2"}, "l2"),
        ({"interaction": "flipr"}, "flipr"),
    ],
)
def test_what_stanford_can_do_and_we_cannot_is_refused(tmp_path: Path, change: dict[str, str], named: str) -> None:
    folder = save_stanford(tmp_path / "model", metadata={**METADATA, **change})
    with pytest.raises(ModelLoadError, match=named):
        Reranker(folder, backend="colbert")


def test_modules_that_are_not_computed_are_refused(tmp_path: Path) -> None:
    folder = save_sentence_transformers(tmp_path / "model")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[3]["type"] = "sentence_transformers.multi_vector_encoder.modules.token_pooling.HierarchicalTokenPooling"
    write_json(folder / "modules.json", modules)
    with pytest.raises(ModelLoadError, match="HierarchicalTokenPooling"):
        Reranker(folder, backend="colbert")


def test_a_missing_projection_is_named(tmp_path: Path) -> None:
    folder = save_stanford(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["linear.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"linear\.weight"):
        Reranker(folder)


def test_damaged_metadata_is_named(tmp_path: Path) -> None:
    folder = save_stanford(tmp_path / "model")
    (folder / "artifact.metadata").write_text("{", encoding="utf-8")
    with pytest.raises(ModelLoadError, match=r"artifact\.metadata"):
        Reranker(folder, backend="colbert")


def test_pickled_weights_are_read_as_plain_data(tmp_path: Path, stanford: Path) -> None:
    folder = save_stanford(tmp_path / "model", pickled=True)
    expected = {r.index: r.score for r in Reranker(stanford).rank(QUERIES[0], TEXTS)}
    assert {r.index: r.score for r in Reranker(folder).rank(QUERIES[0], TEXTS)} == pytest.approx(expected, abs=1e-5)


def test_pickles_with_its_folder_of_vectors(stanford: Path, tmp_path: Path) -> None:
    with Reranker(stanford, vectors=tmp_path / "kept") as reranker:
        expected = reranker.rank(QUERIES[0], TEXTS)
        with pickle.loads(pickle.dumps(reranker)) as again:
            assert again.rank(QUERIES[0], TEXTS) == expected


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"query_maxlen": "many"}, "query_length"),
        ({"query_maxlen": -3}, "query_length"),
        ({"doc_maxlen": [180]}, "document_length"),
        ({"query_token_id": 7}, "query_marker"),
        ({"mask_punctuation": "false"}, "mask_punctuation"),
        ({"attend_to_mask_tokens": "x"}, "attends"),
    ],
)
def test_metadata_of_wrong_types_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    folder = save_stanford(tmp_path / "model", metadata={**METADATA, **change})
    with pytest.raises(ModelLoadError, match=named):
        Reranker(folder, backend="colbert")


@pytest.mark.parametrize(
    ("expansion", "named"),
    [
        ({"strategy": "foo", "length": 32}, "augmentation"),
        ({"strategy": "fixed"}, "augmented_length"),
        ("all", "recipe"),
    ],
)
def test_an_expansion_that_is_not_known_is_named(tmp_path: Path, expansion: Any, named: str) -> None:
    folder = save_sentence_transformers(tmp_path / "model", query_expansion=expansion)
    with pytest.raises(ModelLoadError, match=named):
        Reranker(folder, backend="colbert")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"skiplist_words": 3}, "skiplist"),
        ({"prompts": ["query"]}, "recipe"),
        ({"query_length": "long"}, "query_length"),
        ({"query_prefix": 5}, "recipe"),
    ],
)
def test_settings_of_wrong_types_are_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    folder = save_pylate(tmp_path / "model", **change)
    with pytest.raises(ModelLoadError, match=named):
        Reranker(folder, backend="colbert")


def test_flash_attention_is_refused_where_it_would_drop_the_augmentation(stanford: Path) -> None:
    with Reranker(stanford) as reranker:
        scorer: Any = reranker.scorer
        scorer.runner.forward._attention = "flash_attention_2"  # what the network runs with, on a device that has it
        with pytest.raises(InvalidOptionsError, match="sdpa"):
            reranker.rank("bees", ["A bee."])
        assert len(reranker.rank("bees", ["A bee."], augmentation="none")) == 1


def test_an_augmentation_token_that_the_vocabulary_lacks_is_named(tmp_path: Path) -> None:
    expansion = {"strategy": "fixed", "length": 32, "token": "[NONE]"}
    folder = save_sentence_transformers(tmp_path / "model", query_expansion=expansion)
    with Reranker(folder) as reranker, pytest.raises(InvalidOptionsError, match="NONE"):
        reranker.rank("bees", TEXTS)


def test_modules_that_project_tokens_without_pooling_are_pylates_with_its_defaults(tmp_path: Path) -> None:
    defaults = {"query_length": 32, "document_length": 180}
    stated, bare = (save_pylate(tmp_path / name, **defaults) for name in ("stated", "bare"))
    (bare / "config_sentence_transformers.json").unlink()
    with Reranker(stated) as one, Reranker(bare) as other:
        assert [r.score for r in other.rank(QUERIES[0], TEXTS)] == [r.score for r in one.rank(QUERIES[0], TEXTS)]


def test_a_projection_that_feeds_something_else_is_refused(tmp_path: Path) -> None:
    folder = save_sentence_transformers(tmp_path / "model")
    change_json(folder / "1_Dense" / "config.json", module_output_name="other")
    with pytest.raises(ModelLoadError, match="other"):
        Reranker(folder, backend="colbert")


@pytest.mark.parametrize("shape", [(24, 16), (0, 32), (24, 32, 1)])
def test_a_projection_of_another_shape_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = save_stanford(tmp_path / "model")
    weights = {**load_file(folder / "model.safetensors"), "linear.weight": torch.ones(shape)}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"linear\.weight"):
        Reranker(folder)


def test_a_model_out_of_reach_fails_before_torch_is_imported(tmp_path):
    code = (
        "import sys, rerank\n"
        f"try: rerank.Reranker('colbert', local_files_only=True, cache_dir={str(tmp_path)!r})\n"
        "except rerank.ModelLoadError as error: print(error)\n"
        "print({'torch', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, imported = done.stdout.splitlines()
    assert ", which 'colbert' stands for, is not in the cache" in message
    assert imported == "set()"
