"""Cross-encoders whose head lies in module folders (Ettin's layout), against the head written out by hand."""

from __future__ import annotations

import json
import shutil

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

from rerank import ModelLoadError, ModelRef, Reranker  # noqa: E402
from rerank.testing.contract import DOCUMENTS, QUERY, BackendContract, best_and_worst  # noqa: E402
from rerank_crossencoder.backend import claim  # noqa: E402

PLACES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "LogitScore": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore",
}
GELU, IDENTITY = "torch.nn.modules.activation.GELU", "torch.nn.modules.linear.Identity"
WIDTH = 32
ETTIN = [
    ("Dense", {"in_features": WIDTH, "out_features": WIDTH, "bias": False, "activation_function": GELU}),
    ("LayerNorm", {"dimension": WIDTH}),
    (
        "Dense",
        {"in_features": WIDTH, "out_features": 1, "activation_function": IDENTITY, "module_output_name": "scores"},
    ),
]


def weights(kind, config):
    if kind == "LayerNorm":
        return {"norm.weight": torch.randn(WIDTH), "norm.bias": torch.randn(WIDTH)}
    shapes = {"linear.weight": (config["out_features"], config["in_features"])}
    if config.get("bias", True):
        shapes["linear.bias"] = (config["out_features"],)
    if config.get("use_residual") and config["in_features"] != config["out_features"]:
        shapes["residual.weight"] = shapes["linear.weight"]
    return {name: torch.randn(shape) / 4 for name, shape in shapes.items()}


@pytest.fixture
def write(tmp_path, checkpoint):
    """``write(head, pooling)``: a checkpoint in the layout of sentence-transformers 6."""

    def make(head=ETTIN, pooling="cls", kind="modernbert"):
        folder = tmp_path / "model"
        shutil.copytree(checkpoint(kind), folder)
        whole = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        whole.base_model.save_pretrained(folder)
        torch.manual_seed(3)
        listed = [("", "Transformer", {}), ("1_Pooling", "Pooling", {"pooling_mode": pooling})]
        listed += [(f"{n}_{name}", name, config) for n, (name, config) in enumerate(head, start=2)]
        for path, name, config in listed[1:]:
            (folder / path).mkdir()
            (folder / path / "config.json").write_text(json.dumps(config))
            if name in ("Dense", "LayerNorm"):
                save_file(weights(name, config), folder / path / "model.safetensors")
        modules = [{"idx": n, "path": path, "type": PLACES[name]} for n, (path, name, _) in enumerate(listed)]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "config_sentence_transformers.json").write_text(
            json.dumps({"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"})
        )
        return folder

    return make


def by_hand(folder, pool):
    """Ettin's scores, one pair at a time: pool → Dense, GELU → LayerNorm → Dense."""
    from safetensors.torch import load_file

    encode = transformers.AutoTokenizer.from_pretrained(folder)
    base = transformers.AutoModel.from_pretrained(folder).eval()
    first, norm, last = (
        load_file(folder / name / "model.safetensors") for name in ("2_Dense", "3_LayerNorm", "4_Dense")
    )
    scores = []
    for text in DOCUMENTS:
        with torch.inference_mode():
            inputs = encode(QUERY, text, truncation="only_second", max_length=160, return_tensors="pt")
            vector = pool(base(**inputs).last_hidden_state[0])  # (width,)
            vector = torch.nn.functional.gelu(first["linear.weight"] @ vector)
            vector = (vector - vector.mean()) / torch.sqrt(vector.var(unbiased=False) + 1e-5)
            vector = vector * norm["norm.weight"] + norm["norm.bias"]
            scores.append((last["linear.weight"] @ vector + last["linear.bias"]).item())
    return scores


def scores_of(ranked):
    return [result.score for result in sorted(ranked, key=lambda result: result.index)]


@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        ("cls", lambda hidden: hidden[0]),
        ("mean", lambda hidden: hidden.mean(0)),
        ("max", lambda hidden: hidden.amax(0)),
        ("lasttoken", lambda hidden: hidden[-1]),
    ],
)
def test_scores_are_the_heads_own(write, pooling, pool):
    folder = write(pooling=pooling)
    with Reranker(folder, device="cpu") as reranker:
        assert reranker.backend == "cross-encoder"
        ranked = reranker.rank(QUERY, DOCUMENTS)
        assert ranked.scale == "logit"
        assert scores_of(ranked) == pytest.approx(by_hand(folder, pool), abs=1e-5)
        normalized = reranker.rank(QUERY, DOCUMENTS, normalize=True)
        assert scores_of(normalized) == pytest.approx(
            [1 / (1 + torch.tensor(-score).exp().item()) for score in scores_of(ranked)], abs=1e-6
        )


class TestEttin(BackendContract):
    @pytest.fixture
    def reranker(self, write):
        folder = write(pooling="cls")
        self.better = best_and_worst(QUERY, DOCUMENTS, by_hand(folder, lambda hidden: hidden[0]))
        return Reranker(folder, device="cpu", progress=False)


def test_a_pooler_that_was_never_trained_is_never_read(write):
    folder = write(kind="bert", pooling="cls")
    state = transformers.AutoModel.from_pretrained(folder)
    state.pooler = None
    state.save_pretrained(folder)
    with Reranker(folder, device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(by_hand(folder, lambda h: h[0]), abs=1e-5)


def test_older_poolings_and_pickled_weights_are_read(write):
    folder = write()
    (folder / "1_Pooling/config.json").write_text(
        json.dumps(
            {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        )
    )
    expected = by_hand(folder, lambda hidden: hidden[0])
    from safetensors.torch import load_file

    torch.save(load_file(folder / "2_Dense/model.safetensors"), folder / "2_Dense/pytorch_model.bin")
    (folder / "2_Dense/model.safetensors").unlink()
    with Reranker(folder, device="cpu") as reranker:
        assert scores_of(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_a_residual_is_added(write):
    residual = {**ETTIN[0][1], "bias": True, "use_residual": True}
    plain, added = [("Dense", {**residual, "use_residual": False}), ETTIN[2]], [("Dense", residual), ETTIN[2]]
    folder = write(plain)
    shutil.move(folder, folder.parent / "plain")
    with (
        Reranker(folder.parent / "plain", device="cpu") as without,
        Reranker(write(added), device="cpu") as with_residual,
    ):
        assert without.score(QUERY, DOCUMENTS[0]) != pytest.approx(with_residual.score(QUERY, DOCUMENTS[0]), abs=1e-3)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ([("Dense", {"in_features": WIDTH, "out_features": 8})], "end in a Dense of 1 or 2 outputs"),
        ([("LogitScore", {"true_token_id": 5})], "end in a Dense of 1 or 2 outputs"),
        ([("LogitScore", {"true_token_id": 5}), ETTIN[2]], "end in a Dense of 1 or 2 outputs"),
        ([], "end in a Dense of 1 or 2 outputs"),
    ],
)
def test_modules_of_other_models_are_not_claimed(write, head, reason):
    found = claim(ModelRef(name=str(write(head))))
    assert (found.confidence, reason in found.reason) == (0, True)


@pytest.mark.parametrize(
    ("head", "pooling", "said"),
    [
        (ETTIN, "weightedmean", "pools by weightedmean"),
        (ETTIN, ["cls", "mean"], "pools by cls, mean"),
        ([("Dense", {**ETTIN[0][1], "activation_function": "os.system"}), ETTIN[2]], "cls", "not one of torch.nn"),
        ([("Dense", {**ETTIN[0][1], "surprise": 1}), ETTIN[2]], "cls", "surprise"),
        ([("Dense", {**ETTIN[0][1], "module_input_name": "token_embeddings"}), ETTIN[2]], "cls", "token_embeddings"),
    ],
)
def test_what_is_not_known_is_refused(write, head, pooling, said):
    with pytest.raises(ModelLoadError, match=said):
        Reranker(write(head, pooling), device="cpu")


def test_missing_and_damaged_weights_are_refused(write):
    folder = write()
    file = folder / "4_Dense/model.safetensors"
    save_file({"linear.weight": torch.randn(1, WIDTH)}, file)
    with pytest.raises(ModelLoadError, match=r"linear\.bias"):
        Reranker(folder, device="cpu")
    file.write_bytes(b"{")
    with pytest.raises(ModelLoadError, match="damaged"):
        Reranker(folder, device="cpu")
    file.unlink()
    with pytest.raises(ModelLoadError, match=r"4_Dense/model\.safetensors"):
        Reranker(folder, device="cpu")


@pytest.mark.parametrize("content", ["{", "{}", "[1]", '[{"type": "a.Dense"}]'])
def test_a_list_of_modules_that_is_none_is_refused(write, content):
    folder = write()
    (folder / "modules.json").write_text(content)
    with pytest.raises(ModelLoadError):
        Reranker(folder, device="cpu", backend="cross-encoder")


@pytest.mark.parametrize("kinds", [["Transformer"], ["Transformer", "Pooling"]])
def test_an_ordinary_cross_encoder_with_a_list_of_modules_keeps_its_head(checkpoint, tmp_path, bare, kinds):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("bert"), folder)
    modules = [
        {"idx": n, "path": "" if n == 0 else f"{n}_{kind}", "type": PLACES[kind]} for n, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    with Reranker(folder, device="cpu") as reranker:
        expected = [logit for (logit,) in bare(folder, QUERY, DOCUMENTS)]
        assert scores_of(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)


def test_it_loads_from_a_hub(hub, write, tmp_path):
    folder = write()
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    hub.add("owner/ettin", files)
    with Reranker("owner/ettin", device="cpu", cache_dir=tmp_path / "cache") as reranker:
        expected = by_hand(folder, lambda hidden: hidden[0])
        assert scores_of(reranker.rank(QUERY, DOCUMENTS)) == pytest.approx(expected, abs=1e-5)
