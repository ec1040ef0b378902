"""Which checkpoints load (safe, plain, complete, trusted); any other is a typed error with its next step."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from rerank import InvalidOptionsError, ModelLoadError, ModelRef, Reranker
from rerank.cli import cli
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_torch import TorchOptions
from rerank_torch.loading import load_model


@pytest.fixture
def copy(checkpoint, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("bert"), folder)
    return folder


def load(folder, **options):
    return Reranker(folder, device="cpu", **options)


def pickle_weights(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def write_config(folder, **config):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def test_a_bin_is_read_as_plain_weights_with_one_line(checkpoint, copy, caplog):
    pickle_weights(copy)
    with caplog.at_level(logging.INFO, logger="rerank_torch"), load(copy) as reranker:
        (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("rerank_torch")]
        assert "weights_only=True" in line
        with load(checkpoint("bert")) as safe:
            assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(safe.score(QUERY, DOCUMENTS[0]), abs=1e-6)


def test_safetensors_are_preferred(checkpoint, copy):
    (copy / "pytorch_model.bin").write_bytes(b"never read")
    with load(copy) as reranker, load(checkpoint("bert")) as safe:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(safe.score(QUERY, DOCUMENTS[0]), abs=1e-6)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("options", [{}, {"model_kwargs": {"weights_only": False}}])
def test_a_pickle_that_runs_code_is_refused_unrun(copy, tmp_path, options):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save({**weights, "trap": Trap(tmp_path / "sprung")}, copy / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="convert it to safetensors"):
        load(copy, **options)
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps({**weights, "trap": Trap(tmp_path / "sprung")}))
    with pytest.raises(ModelLoadError):
        load(copy, **options)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("keep", [0, 4, 1000, -1])
def test_truncated_weights_are_reported(copy, keep):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match="fetch the checkpoint again"):
        load(copy)


def test_a_truncated_bin_is_reported(copy):
    pickle_weights(copy)
    path = copy / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ModelLoadError, match=r"damaged|plain weights"):
        load(copy)


def test_a_missing_head_is_told_and_not_made_up(copy):
    path = copy / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("classifier")}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=r"no weights for 2 tensors .* 'classifier\.bias'"):
        load(copy)


def test_weights_of_another_shape_are_reported(copy):
    write_config(copy, intermediate_size=64)
    with pytest.raises(ModelLoadError, match=r"of other shapes than its config.json says"):
        load(copy)


def test_sharded_weights_load(checkpoint, copy):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, own in shards.items():
        save_file({name: weights[name] for name in own}, copy / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, own in shards.items() for name in own}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with load(copy) as reranker, load(checkpoint("bert")) as whole:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(whole.score(QUERY, DOCUMENTS[0]), abs=1e-6)
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="00002"):
        load(copy)


def test_a_checkpoint_without_weights_says_what_it_needs(copy):
    (copy / "model.safetensors").rename(copy / "weights.safetensors")
    with pytest.raises(ModelLoadError, match="convert its weights to safetensors"):
        load(copy)


def test_a_classifier_of_texts_is_refused_whoever_asks(checkpoint):
    with pytest.raises(ModelLoadError, match="3 outputs"):
        load(checkpoint("bert", num_labels=3), backend="cross-encoder")


def test_a_config_that_asks_for_tuples_changes_nothing(checkpoint, copy):
    write_config(copy, return_dict=False)
    with load(copy) as reranker, load(checkpoint("bert")) as plain:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(plain.score(QUERY, DOCUMENTS[0]), abs=1e-6)


CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from transformers import BertForSequenceClassification
class Own(BertForSequenceClassification):
    pass
"""


def test_code_of_the_checkpoint_never_runs_unasked(copy, monkeypatch, tmp_path):
    (copy / "modeling_own.py").write_text(CODE)
    write_config(copy, auto_map={"AutoModelForSequenceClassification": "modeling_own.Own"})
    for options in ({}, {"trust_remote_code": False}, {"model_kwargs": {}}):
        with pytest.raises(ModelLoadError, match="pass trust_remote_code=True"):
            load(copy, **options)
    write_config(copy, model_type="own", auto_map={"AutoConfig": "modeling_own.Own"})
    with pytest.raises(ModelLoadError, match="trust_remote_code=True"):
        load(copy)
    assert not list(tmp_path.rglob("ran"))


def test_code_of_the_checkpoint_runs_when_asked(checkpoint, copy, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (copy / "modeling_own.py").write_text(CODE)
    write_config(copy, auto_map={"AutoModelForSequenceClassification": "modeling_own.Own"})
    with load(copy, trust_remote_code=True) as reranker, load(checkpoint("bert")) as plain:
        assert type(reranker.scorer.runner.forward.network).__name__ == "Own"
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(plain.score(QUERY, DOCUMENTS[0]), abs=1e-5)


def test_code_that_was_trusted_once_runs_for_no_other_checkpoint(checkpoint, copy, monkeypatch, tmp_path):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (copy / "modeling_own.py").write_text(CODE)
    write_config(copy, auto_map={"AutoModelForSequenceClassification": "modeling_own.Own"})
    load(copy, trust_remote_code=True).close()
    with load(checkpoint("bert")) as plain:
        assert type(plain.scorer.runner.forward.network).__name__ == "BertForSequenceClassification"


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "fp16 by default": lambda: default_dtype(torch.float16),
    "fp64 by default": lambda: default_dtype(torch.float64),
    "meta by default": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_what_surrounds_loading_and_ranking_changes_no_score(copy, surroundings, dtype):
    def rank(reranker):
        return [result.score for result in reranker.rank(QUERY, DOCUMENTS)]

    with load(copy, dtype=dtype) as outside:
        expected = rank(outside)
        with SURROUNDINGS[surroundings](), load(copy, dtype=dtype) as inside:
            assert rank(inside) == rank(outside) == expected


def test_a_dtype_that_another_thread_changed_is_reported(copy, monkeypatch):
    """As when the caller loads a model of its own in bf16 at the same time."""
    kind = transformers.AutoModelForSequenceClassification
    load_as_asked = kind.from_pretrained

    def load_beside_another(*args, **kwargs):
        network, info = load_as_asked(*args, **kwargs)
        return network.bfloat16(), info

    monkeypatch.setattr(kind, "from_pretrained", load_beside_another)
    with pytest.raises(
        ModelLoadError, match=r"in torch.bfloat16 instead of torch.float32: another thread .*one model after"
    ):
        load(copy)


def test_code_in_another_repository_is_looked_for_as_the_model_is(copy, monkeypatch, tmp_path):
    asked = {}

    def fetch(name, file, **how):
        asked.update(how, name=name)
        raise OSError("not here")

    monkeypatch.setattr("transformers.dynamic_module_utils.cached_file", fetch)
    write_config(copy, auto_map={"AutoModelForSequenceClassification": "owner/code--modeling_own.Own"})
    where = {"cache_dir": str(tmp_path), "token": "hf_own", "local_files_only": True}
    with pytest.raises(ModelLoadError, match="not here"):
        load(copy, trust_remote_code=True, **where)
    assert asked.items() >= {**where, "name": "owner/code"}.items()


def test_model_and_tokenizer_kwargs_arrive(copy):
    with load(copy, model_kwargs={"hidden_dropout_prob": 0.5}, tokenizer_kwargs={"model_max_length": 77}) as reranker:
        scorer = reranker.scorer
        assert scorer.runner.forward.network.config.hidden_dropout_prob == 0.5
        assert scorer.limits.default == 77
    with pytest.raises(ModelLoadError, match="model_kwargs"):
        load(copy, model_kwargs={"no_such_argument": 1})


def test_loading_prints_nothing(copy, capfd):
    load(copy).close()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_damaged_config_is_reported(copy):
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match="fetch the checkpoint again"):
        load(copy)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_of_the_hub_loads_once_and_then_offline(hub, checkpoint):
    folder = checkpoint("bert")
    hub.add("owner/model", files_of(folder))
    with load(folder) as local:
        expected = local.score(QUERY, DOCUMENTS[0])
    with load("owner/model") as reranker:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-6)
    hub.stop()
    with load("owner/model", local_files_only=True) as reranker:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ModelLoadError, match="cache"):
        load("owner/other", local_files_only=True)


def test_a_revision_and_a_cache_folder_are_the_ones_asked_for(hub, checkpoint, tmp_path):
    hub.add("owner/model", files_of(checkpoint("bert")))
    hub.add("owner/model", files_of(checkpoint("bert", num_labels=2)), revision="two")
    with load("owner/model", revision="two", cache_dir=tmp_path / "cache") as reranker:
        assert reranker.scorer.runner.forward.network.config.num_labels == 2
    assert list((tmp_path / "cache").glob("models--owner--model"))
    with pytest.raises(ModelLoadError, match="revision"):
        load("owner/model", revision="three")


def test_a_private_model_needs_its_token(hub, checkpoint):
    hub.add("owner/private", files_of(checkpoint("bert")), token="secret")
    with pytest.raises(ModelLoadError, match="token="):
        load("owner/private")
    with load("owner/private", token="secret") as reranker:
        assert len(reranker.rank(QUERY, DOCUMENTS)) == len(DOCUMENTS)
        assert "secret" not in repr(reranker)


def test_a_checkpoint_without_a_tokenizer_is_refused(checkpoint, tmp_path):
    folder = tmp_path / "bare"
    shutil.copytree(checkpoint("bert"), folder)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(ModelLoadError):
        Reranker(folder, device="cpu")


def add_tensor(folder, name, *shape):
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, name: torch.ones(shape)}, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.0.attention.self.distance_embedding.weight",  # relative positions, which transformers 5 drops
        "bert.encoder.layer.3.output.dense.weight",  # more layers than config.json says
        "bert.embeddings.word_type_embeddings.weight",
        "classifier.out_proj.weight",
        "ranking_head.weight",
        "cls.dense.weight",
        "decoder.layers.0.weight",
        "qa_outputs.weight",
        "bert.encoder.layer.0.pooler.weight",
        "bert.pooler.dense2.weight",  # the network has a pooler of one layer
    ],
)
def test_weights_that_the_network_has_no_place_for_are_refused(copy, name):
    add_tensor(copy, name, 2, 2)
    with pytest.raises(ModelLoadError, match=f"1 tensors .*BertForSequenceClassification has no place for, '{name}'"):
        load(copy)


@pytest.mark.parametrize("name", ["bert.encoder.layer.0.attn.bias", "bert.encoder.layer.1.attention.bias"])
@pytest.mark.parametrize("shape", [(32,), (4, 16, 16), (1, 1, 16, 8), (2, 1, 16, 16), (1, 1)])
def test_a_bias_that_is_no_causal_mask_is_refused(copy, name, shape):
    add_tensor(copy, name, *shape)
    with pytest.raises(ModelLoadError, match=f"1 tensors .* has no place for, '{name}'"):
        load(copy)


@pytest.mark.parametrize("pickled", [False, True])
def test_causal_masks_that_decoders_saved_change_nothing(tmp_path, pickled):
    torch.manual_seed(3)
    config = transformers.GPTNeoConfig(
        hidden_size=32, num_layers=1, num_heads=4, vocab_size=148, attention_types=[[["global"], 1]], num_labels=1
    )
    transformers.GPTNeoForSequenceClassification(config).save_pretrained(tmp_path)
    mask = torch.tril(torch.ones(16, 16, dtype=torch.bool)).view(1, 1, 16, 16)
    name = "transformer.h.0.attn.attention.bias"
    add = {name: mask, "transformer.h.0.attn.attention.masked_bias": torch.tensor(-1e9)}
    weights = {**load_file(tmp_path / "model.safetensors"), **add}

    def save():
        if pickled:
            (tmp_path / "model.safetensors").unlink(missing_ok=True)
            torch.save(weights, tmp_path / "pytorch_model.bin")
        else:
            save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    save()
    kind, model = "AutoModelForSequenceClassification", ModelRef(name=str(tmp_path))
    assert load_model(kind, model, TorchOptions(), "cpu").config.num_labels == 1
    weights["transformer.h.1.attn.attention.bias"] = torch.ones(32)
    save()
    with pytest.raises(ModelLoadError, match=r"has no place for, 'transformer\.h\.1\.attn\.attention\.bias'"):
        load_model(kind, model, TorchOptions(), "cpu")


@pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 computes what 5 dropped")
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "electra"])
@pytest.mark.parametrize(
    "asked",
    [
        {"position_embedding_type": "relative_key"},
        {"position_embedding_type": "relative_key_query"},
        {"pruned_heads": {"0": [0]}},
    ],
)
def test_a_setting_that_transformers_dropped_is_refused(checkpoint, tmp_path, kind, asked):
    folder = shutil.copytree(checkpoint(kind), tmp_path / "model")
    write_config(folder, **asked)
    with pytest.raises(
        ModelLoadError,
        match=f"asks for {next(iter(asked))}=.*ForSequenceClassification, .*: pip install 'transformers<5'",
    ):
        load(folder)


@pytest.mark.skipif(transformers.__version__ < "5", reason="transformers 4 computes what 5 dropped")
@pytest.mark.parametrize("rotation", ["linear", "unknown"])
def test_a_scaling_of_positions_that_is_passed_over_is_refused(checkpoint, tmp_path, rotation):
    folder = shutil.copytree(checkpoint("modernbert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    own = {name: value for name, value in config.items() if name != "rope_parameters"}
    (folder / "config.json").write_text(json.dumps({**own, "rope_scaling": {"type": rotation, "factor": 4.0}}))
    with pytest.raises(ModelLoadError, match=r"asks for rope_scaling=.*: call its kind rope_type there"):
        load(folder)
    write_config(folder, rope_scaling={"type": "linear", "factor": 1.0})
    load(folder).close()


def test_a_scaling_of_positions_that_is_computed_is_not_refused(tmp_path):
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48, vocab_size=90, num_labels=1
    )
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    own = json.loads((tmp_path / "config.json").read_text())
    own.pop("rope_parameters", None)
    (tmp_path / "config.json").write_text(json.dumps({**own, "rope_scaling": {"type": "linear", "factor": 4.0}}))
    load_model("AutoModelForSequenceClassification", ModelRef(name=str(tmp_path)), TorchOptions(), "cpu")


@pytest.mark.parametrize(
    "asked", [{"position_embedding_type": "absolute"}, {"pruned_heads": {}}, {"rope_scaling": None}]
)
def test_a_dropped_setting_that_changes_nothing_is_passed_over(checkpoint, copy, asked):
    write_config(copy, **asked)
    with load(copy) as reranker, load(checkpoint("bert")) as original:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(original.score(QUERY, DOCUMENTS[0]), abs=1e-6)


def test_an_activation_that_transformers_lacks_says_which_version_to_install(copy):
    write_config(copy, hidden_act="snake")
    with pytest.raises(ModelLoadError, match=r"'snake'.*install the version that config\.json states"):
        load(copy)


@pytest.mark.parametrize(
    "name",
    ["cls.predictions.bias", "cls.seq_relationship.weight", "lm_head.dense.weight", "bert.embeddings.position_ids"],
)
def test_heads_of_pretraining_and_buffers_change_nothing(checkpoint, copy, name):
    add_tensor(copy, name, 1, 160)
    with load(copy) as reranker, load(checkpoint("bert")) as original:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(original.score(QUERY, DOCUMENTS[0]), abs=1e-6)


def test_fewer_layers_than_the_weights_have_are_refused(copy):
    write_config(copy, num_hidden_layers=2)
    with pytest.raises(ModelLoadError, match=r"'bert\.encoder\.layer\.2\..*config.json may belong to other weights"):
        load(copy)


PROMPT = "Find a passage: "


def save_prompts(folder, **settings):
    settings = {"model_type": "CrossEncoder", **settings}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    whole = {"type": "sentence_transformers.base.modules.transformer.Transformer", "idx": 0, "name": "0", "path": ""}
    (folder / "modules.json").write_text(json.dumps([whole]))


def test_the_default_prompt_is_joined_with_the_query(checkpoint, copy):
    save_prompts(copy, prompts={"web": PROMPT, "other": "x "}, default_prompt_name="web")
    with load(copy) as reranker, load(checkpoint("bert")) as bare:
        ours = [reranker.score(QUERY, text) for text in DOCUMENTS]
        assert ours == pytest.approx([bare.score(PROMPT + QUERY, text) for text in DOCUMENTS], abs=1e-6)
        given = reranker.score(QUERY, DOCUMENTS[0], query_instruction_for_rerank="A: ")
        assert given == pytest.approx(bare.score("A: " + QUERY, DOCUMENTS[0]), abs=1e-6)
        without = reranker.score(QUERY, DOCUMENTS[0], query_instruction_for_rerank="")
        assert without == pytest.approx(bare.score(QUERY, DOCUMENTS[0]), abs=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prompts": {"web": PROMPT}},
        {"prompts": {}, "default_prompt_name": None},
        {"prompts": {"web": None}, "default_prompt_name": "web"},  # sentence-transformers 6.2 takes it for an empty one
        {"prompts": {"web": ""}, "default_prompt_name": "web"},
    ],
)
def test_a_prompt_that_is_no_default_is_left_out(checkpoint, copy, settings):
    save_prompts(copy, **settings)
    with load(copy) as reranker, load(checkpoint("bert")) as bare:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(bare.score(QUERY, DOCUMENTS[0]), abs=1e-6)


def test_a_prompt_that_sentence_transformers_does_not_read_is_left_out(checkpoint, copy):
    save_prompts(copy, prompts={"web": "find: "}, default_prompt_name="web", model_type="SentenceTransformer")
    with load(copy) as reranker, load(checkpoint("bert")) as original:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(original.score(QUERY, DOCUMENTS[0]), abs=1e-6)
    save_prompts(copy, prompts={"web": "find: "}, default_prompt_name="web")
    (copy / "modules.json").unlink()
    with load(copy) as reranker, load(checkpoint("bert")) as original:
        assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(original.score(QUERY, DOCUMENTS[0]), abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"prompts": None, "default_prompt_name": "web"}, "has no prompt 'web', its default_prompt_name"),
        ({"default_prompt_name": "web"}, "has no prompt 'web', its default_prompt_name"),
        ({"prompts": {"other": "x"}, "default_prompt_name": "web"}, "has no prompt 'web', its default_prompt_name"),
        (
            {"prompts": {"web": "x"}, "default_prompt_name": ["web"]},
            r"has no prompt \['web'\], its default_prompt_name",
        ),
        ({"prompts": {"1": "x"}, "default_prompt_name": 1}, "has no prompt 1, its default_prompt_name"),
        (
            {"prompts": ["web"], "default_prompt_name": "web"},
            "prompts in config_sentence_transformers.json .* is no obj",
        ),
        ({"prompts": {"web": 3}, "default_prompt_name": "web"}, "the prompt 'web' in .* is 3, no text"),
        ({"prompts": {"web": ["x"]}, "default_prompt_name": "web"}, r"the prompt 'web' in .* is \['x'\], no text"),
    ],
)
def test_a_default_prompt_that_is_no_text_is_an_error(copy, settings, problem):
    save_prompts(copy, **settings)
    with pytest.raises(ModelLoadError, match=f"{problem}.*: fetch the checkpoint again"):
        load(copy)


@pytest.mark.parametrize("content", ["", "[]", '"web"', "{"])
def test_settings_that_cannot_be_read_are_named(copy, content):
    (copy / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"config_sentence_transformers\.json of .* is not a JSON object"):
        load(copy)


def test_explain_shows_the_default_prompt(copy):
    save_prompts(copy, prompts={"web": PROMPT}, default_prompt_name="web")
    ran = CliRunner().invoke(cli, ["explain", str(copy)])
    assert "query: 'Find a passage: {query}' (the checkpoint's own prompt)" in ran.output
    ran = CliRunner().invoke(cli, ["explain", str(copy), "-o", "query_instruction_for_rerank=A: "])
    assert "query: 'A: {query}'" in ran.output


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module.model."])
def test_a_prefix_of_every_name_is_named(copy, prefix):
    weights = {prefix + name: tensor for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelLoadError, match=rf"tensors begin with '{prefix}'.*model\.module\.save_pretrained"):
        load(copy)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"vocab_size": 50},
            r"1 tensors of other shapes .*'bert\.embeddings\.word_embeddings\.weight' .*instead of \(50, 32\)",
        ),
        ({"hidden_size": 48}, r"tensors of other shapes than its config.json says, .*instead of \(48,\)"),
        (
            {"num_labels": 2, "id2label": {"0": "a", "1": "b"}},
            r"'classifier\.bias' .*\(\(1,\) instead of \(2,\)\)|size mismatch for classifier",
        ),
    ],
)
def test_other_shapes_than_the_configuration_says(copy, config, message):
    write_config(copy, **config)
    with pytest.raises(ModelLoadError, match=message):
        load(copy)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_git_lfs_pointer_is_called_one(copy, file):
    (copy / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ModelLoadError, match=f"{file} of .* is a git-lfs pointer, .*fetch it with 'git lfs pull'"):
        load(copy)


@pytest.mark.parametrize("file", ["sentencepiece.bpe.model", "sentencepiece.model", "spiece.model", "spm.model"])
def test_sentencepiece_alone_names_the_package(copy, monkeypatch, file):
    monkeypatch.setattr("rerank_torch.loading.find_spec", lambda name: None)
    for path in copy.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    (copy / file).write_bytes(b"\n\x0e\n")
    with pytest.raises(ModelLoadError, match=rf"only as {file}, .*pip install sentencepiece, or save"):
        load(copy)


@pytest.mark.parametrize("device", ["xpu", "meta", "vulkan"])
def test_a_device_of_another_kind_is_refused(copy, device):
    with pytest.raises(InvalidOptionsError, match=f"device '{device}' is not supported: choose cuda, mps, npu or cpu"):
        Reranker(copy, device=device)


def test_an_empty_folder_that_hides_a_name_of_the_hub_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("BAAI/bge-reranker-v2-m3").mkdir(parents=True)
    with pytest.raises(ModelLoadError, match="is empty, and hides the hub's model of that name: remove it"):
        Reranker("BAAI/bge-reranker-v2-m3")
    with pytest.raises(ModelLoadError, match="is empty: give the folder of a checkpoint"):
        Reranker(tmp_path / "BAAI" / "bge-reranker-v2-m3", backend="cross-encoder")
