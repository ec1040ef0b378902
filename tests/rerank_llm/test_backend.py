"""Which models each backend claims, with which recipe, and what `rerank explain` shows; torch stays unimported."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fake_plugins import Site
from language_models import save_causal, vocabulary

from rerank import BackendNotFoundError, Confidence, InvalidOptionsError, ModelLoadError, ModelRef, Reranker, installed
from rerank.cli import cli
from rerank.resolution import select
from rerank.testing.contract import DOCUMENTS, QUERY
from rerank_llm import hookspecs
from rerank_llm.backend import claim_causal
from rerank_llm.recipes import OWN, find, known, trained

PANDA, BEAR = "what is a panda?", "The giant panda is a bear of China."
KNOWN = {
    "castorini/monot5-base-msmarco": "monot5",
    "castorini/monot5-3b-med-msmarco": "monot5",
    "unicamp-dl/InRanker-small": "monot5",
    "Dundalia/TWOLAR-xl": "monot5",
    "unicamp-dl/mt5-base-mmarco-v2": "mt5",
    "unicamp-dl/mt5-13b-mmarco-100k": "mt5-3b",
    "unicamp-dl/ptt5-base-pt-msmarco-100k-v2": "ptt5",
    "unicamp-dl/monoptt5-large": "monoptt5",
    "Soyoung97/RankT5-base": "rankt5",
    "BAAI/bge-reranker-v2-gemma": "bge-gemma",
    "BAAI/bge-reranker-v2-minicpm-layerwise": "bge-layerwise",
    "BAAI/bge-reranker-v2.5-gemma2-lightweight": "bge-lightweight",
    "BAAI/Matroyshka-ReRanker-beir": "bge-lightweight",
    "Qwen/Qwen3-Reranker-8B": "qwen3",
    "Qwen/Qwen3-VL-Reranker-2B": "qwen3-vl",
    "mixedbread-ai/mxbai-rerank-base-v2": "mxbai-v2-base",
    "mixedbread-ai/mxbai-rerank-large-v2": "mxbai-v2",
    "ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b": "ctxl-v2",
    "zeroentropy/zerank-1-small": "zerank",
    "zeroentropy/zerank-2": "zerank",
    "nvidia/llama-nemotron-rerank-1b-v2": "nemotron",
    "jhu-clsp/rank1-7b": "rank1",
}
UNKNOWN = ("BAAI/bge-reranker-v2-m3", "mixedbread-ai/mxbai-rerank-base-v1", "castorini/duot5-base-msmarco", "x", "")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["explain", *arguments])


@pytest.mark.parametrize("name", KNOWN)
def test_a_name_that_is_known_is_claimed_without_its_files(name: str) -> None:
    recipe = trained(ModelRef(name))
    assert recipe is not None
    assert recipe.name == KNOWN[name]
    other = "t5" if recipe.is_encoder_decoder else "llm-pointwise"
    backend = {"layerwise": "llm-layerwise", "lightweight": "llm-lightweight"}.get(recipe.kind, other)
    assert select(installed(), ModelRef(name, local_files_only=True)).backend.name == backend


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_name_that_is_not_known(name: str) -> None:
    assert trained(ModelRef(name)) is None


def test_every_recipe_states_its_source_and_is_found_by_its_name() -> None:
    for recipe in OWN:
        assert recipe.source
        assert find(recipe.name) is recipe
    with pytest.raises(InvalidOptionsError, match="there is no recipe 'monot6': did you mean 'monot5'"):
        find("monot6")


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ({"model": "t5"}, "unicamp-dl/InRanker-base"),
        ({"model": "t5", "lang": "fr"}, "unicamp-dl/mt5-base-mmarco-v2"),
        ({"model": "t5", "lang": "pt"}, "unicamp-dl/ptt5-base-pt-msmarco-100k-v2"),
        ({"model_type": "t5"}, "unicamp-dl/InRanker-base"),
        ({"model": "llm-layerwise"}, "BAAI/bge-reranker-v2-minicpm-layerwise"),
        ({"model": "mxbaiv2"}, "mixedbread-ai/mxbai-rerank-base-v2"),
    ],
)
def test_short_names(given: dict[str, str], model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=model):
        Reranker(**given, local_files_only=True, cache_dir=str(tmp_path))


def test_explain_shows_recipe_origin_and_prompt(causal: Callable[..., Path]) -> None:
    shown = run("Qwen/Qwen3-Reranker-0.6B", "--local-files-only")
    assert "it cannot be described: model 'Qwen/Qwen3-Reranker-0.6B' is not in the cache" in shown.output
    folder = causal()
    shown = run(str(folder))
    assert shown.exit_code == 0, shown.output
    assert "recipe: yes-no, from the backend's default" in shown.output
    assert "score: logit('Yes') − logit('No') at the last position" in shown.output
    prompt = shown.output.partition("one by one:\n")[2]
    assert json.loads(prompt) == (
        "<|im_start|>user\nPassage: The giant panda is a bear of China.\nQuery: what is a panda?\n"
        "Does the passage answer the query? Answer 'Yes' or 'No'<|im_end|>\n<|im_start|>assistant\n"
    )
    as_json = json.loads(run(str(folder), "--json").output)
    assert as_json["description"][0].startswith("recipe: yes-no")


def test_explain_takes_the_options_of_the_backend(causal: Callable[..., Path]) -> None:
    folder = str(causal())
    options = ["-o", "recipe=bge-gemma", "-o", "instruction=Judge.", "-o", "max_length=99"]
    shown = run(folder, "-b", "llm-pointwise", *options)
    assert "limit: 99 tokens, which bound the passage" in shown.output
    pieces = [json.loads(line) for line in shown.output.partition("one by one:\n")[2].splitlines()]
    bos = "<|im_start|>"  # by config.json: the tokenizer does not say
    assert pieces == [bos, "A: what is a panda?", "\n", "B: The giant panda is a bear of China.", "\n", "Judge."]
    assert "it cannot be described: recipe 'monot5' is of kind t5" in run(folder, "-o", "recipe=monot5").output
    assert "recipe: yes-no" in run(folder, "-o", "local_files_only=true").output
    assert "did you mean 'recipe'" in str(run(folder, "-o", "recipes=qwen3").exception)


def test_explain_shows_the_tokens_at_both_ends(t5: Path) -> None:
    pieces = run(str(t5)).output.partition("one by one:\n")[2].splitlines()
    assert [json.loads(piece) for piece in pieces][1:] == [" Relevant:", "</s>"]


@pytest.mark.parametrize(
    "folder", ["Qwen3-Reranker-0.6B", "models--Qwen--Qwen3-Reranker-0.6B/snapshots/0a1b2c", "Qwen3-Reranker-0.6B/"]
)
def test_a_folder_is_known_by_the_name_that_the_hub_gave_it(tmp_path: Path, folder: str) -> None:
    save_causal(tmp_path / folder)
    assert "recipe: qwen3, from the name" in run(str(tmp_path / folder)).output


def test_a_folder_with_another_head_is_not_claimed_by_its_name(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "Qwen3-Reranker-0.6B-seq-cls")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["Qwen2ForSequenceClassification"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert claim_causal(ModelRef(str(folder))).confidence == Confidence.NONE


def test_a_default_recipe_is_warned_about(causal: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Reranker(causal()):
        assert "neither" in caplog.text
        assert "it is prompted as 'yes-no'; recipe= sets another" in caplog.text


def save_carried(folder: Path, template: str) -> Path:
    save_causal(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}), encoding="utf-8")
    modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.LogitScore", "path": "1_LogitScore"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_LogitScore").mkdir()
    (folder / "1_LogitScore" / "config.json").write_text('{"true_token_id": 5, "false_token_id": 6}', encoding="utf-8")
    return folder


def test_a_recipe_that_differs_from_the_carried_one_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    save_carried(Path("zeroentropy/zerank-9"), "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    with caplog.at_level(logging.WARNING), Reranker("zeroentropy/zerank-9") as reranker:
        assert reranker.score(QUERY, DOCUMENTS[0]) != 0
    assert "carries a recipe of its own, which differs from 'zerank'" in caplog.text
    assert "from the checkpoint itself" in run("zeroentropy/zerank-9").output


PAIR = "{{% for m in messages %}}{{{{ m.role }}}}: {{{{ m.content{} }}}}\n{{% endfor %}}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0].content }}",
        "{{ messages[0].content }}{{ messages[1].content }}{{ messages[1].content }}",
        *(PAIR.format(change) for change in (" | tojson", " | length", " | upper", "[:100]", " | replace('&', 'and')")),
    ],
)
def test_a_chat_template_that_is_of_no_use(tmp_path: Path, template: str) -> None:
    folder = save_carried(tmp_path / "model", template)
    with pytest.raises(ModelLoadError, match=r"the chat template of .* give recipe="):
        Reranker(folder)


def test_a_default_prompt_is_kept_whatever_is_stripped(tmp_path: Path) -> None:
    scores = []
    for n, change in enumerate(("", " | trim")):
        folder = save_carried(tmp_path / str(n), PAIR.format(change))
        prompts = {"model_type": "CrossEncoder", "prompts": {"find": "Find it."}, "default_prompt_name": "find"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
        shown = run(str(folder)).output
        assert json.dumps(f"system: Find it.\nquery: {PANDA}\ndocument: {BEAR}\n") in shown
        with Reranker(folder) as reranker:
            scores.append(reranker.score(QUERY, DOCUMENTS[0]))
            none = reranker.score(QUERY, DOCUMENTS[0], instruction="")
            assert none != pytest.approx(scores[-1], abs=1e-3)
        plain = save_carried(tmp_path / f"plain{n}", PAIR.format(change))
        with Reranker(plain) as reranker:
            assert reranker.score(QUERY, DOCUMENTS[0]) == pytest.approx(none, abs=1e-5)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize("change", [" | trim", ".strip()"])
def test_a_chat_template_that_strips_texts(tmp_path: Path, change: str) -> None:
    folder = save_carried(tmp_path / "model", PAIR.format(change))
    with Reranker(folder) as reranker:
        padded = reranker.score(f"\n{QUERY} ", f" {DOCUMENTS[0]}\n\n")
        assert padded == pytest.approx(reranker.score(QUERY, DOCUMENTS[0]), abs=1e-5)
    kept = save_carried(tmp_path / "kept", PAIR.format(""))
    with Reranker(kept) as reranker:
        padded = reranker.score(f"\n{QUERY} ", f" {DOCUMENTS[0]}\n\n")
        assert padded != pytest.approx(reranker.score(QUERY, DOCUMENTS[0]), abs=1e-4)


def test_a_chat_template_that_shows_the_turn_twice(tmp_path: Path) -> None:
    folder = save_causal(tmp_path / "model")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = "{{ messages[0].content }} {{ messages[0].content }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="does not show turn once each: give recipe="):
        Reranker(folder)


REGISTERS = """
from rerank import hookimpl
from rerank_llm import Recipe

@hookimpl
def rerank_register_recipes():
    yield Recipe(name={name!r}, pieces="{{query}} {{document}} ->", true="1", models="acme/*")
"""


def test_a_plugin_adds_a_recipe(site: Site) -> None:
    (site.folder / "rerank_acme.py").write_text(REGISTERS.format(name="acme"), encoding="utf-8")
    site.describe("rerank_acme")
    known.cache_clear()
    recipe = trained(ModelRef("acme/reranker"))
    assert recipe is not None
    assert recipe.name == "acme"
    assert trained(ModelRef(str(site.folder))) is None


def test_a_plugin_cannot_replace_a_recipe(site: Site) -> None:
    (site.folder / "rerank_acme.py").write_text(REGISTERS.format(name="qwen3"), encoding="utf-8")
    site.describe("rerank_acme")
    known.cache_clear()
    assert find("qwen3").source.startswith("QwenLM")
    row = next(plugin for plugin in installed().plugins if plugin.name == "rerank_acme")
    assert (row.status, "exists already" in row.reason) == ("failed", True)


def test_the_plugin_of_the_documentation_runs_as_it_stands(site: Site) -> None:
    code = (hookspecs.__doc__ or "").split("```python\n")[1].split("```")[0]
    (site.folder / "rerank_acme.py").write_text(code, encoding="utf-8")
    site.describe("rerank_acme")
    known.cache_clear()
    assert find("acme").models == ("acme/reranker-*",)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"quantization": "2bit"}, "quantization"),
        ({"recipe": 5}, "recipe"),
        ({"cutoff_layers": [1]}, "'cutoff_layers' is unknown"),
        ({"token_true": 1}, "1 is no text: quote the token .*1"),
        ({"token_true": True}, "True is no text: quote the token .*true"),
        ({"inputs_template": "{query}"}, "inputs_template cannot be used .*must contain {query} and {document}"),
        ({"instruction": "Judge."}, "recipe 'yes-no' has no place for an instruction"),
        ({"max_new_tokens": 5}, "writes nothing"),
        ({"recipe": "query-likelihood", "token_true": "1"}, "so token_true has no effect: leave it out"),
        ({"recipe": "yes-no", "token_true": "yes", "token_false": "yes"}, "are the same token"),
        ({"recipe": "ctxl-v2", "token_true": "yes", "prefix_reuse": True}, "cannot reuse a prefix"),
        ({"recipe": {"name": "x", "pieces": "{query} {document}", "true": -1}}, "true"),
        ({"recipe": {"name": "x", "pieces": "{query} {document}", "true": True}}, "true"),
        ({"recipe": {"name": "x", "kind": "reasoning", "pieces": "{query} {document}", "true": "1"}}, "false must be"),
    ],
)
def test_an_option_that_cannot_be_used(causal: Callable[..., Path], option: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidOptionsError, ModelLoadError), match=message):
        Reranker(causal(), backend="llm-pointwise", **option)


@pytest.mark.parametrize(
    ("option", "package"), [({"quantization": "4bit"}, "bitsandbytes"), ({"peft_path": "x"}, "peft")]
)
def test_an_option_whose_package_is_not_installed(
    causal: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, option: dict[str, Any], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidOptionsError, match=f"needs {package}: pip install {package}"):
        Reranker(causal(), backend="llm-pointwise", recipe="yes-no", **option)


def test_without_the_distribution_the_error_says_what_to_install() -> None:
    from rerank.registry import Registry

    for name in ("t5", "llm-pointwise", "llm-layerwise", "llm-lightweight"):
        with pytest.raises(BackendNotFoundError, match="pip install rerank-llm"):
            Reranker(name, registry=Registry())


def test_describing_the_backends_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, rerank\n"
        "for backend in rerank.installed().backends.values():\n"
        "    backend.claim(rerank.ModelRef('Qwen/Qwen3-Reranker-0.6B', local_files_only=True)) "
        "if backend.name == 'llm-pointwise' else None\n"
        "print({'torch', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["t5", "llm-layerwise", "mxbaiv2", "duot5", "lit5", "rankzephyr", "jina-v3"])
def test_a_model_out_of_reach_fails_before_torch_is_imported(name: str, tmp_path: Path) -> None:
    code = (
        "import sys, rerank\n"
        f"try: rerank.Reranker({name!r}, local_files_only=True, cache_dir={str(tmp_path)!r})\n"
        "except rerank.ModelLoadError as error: print(error)\n"
        "print({'torch', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, imported = done.stdout.splitlines()
    assert f", which {name!r} stands for, is not in the cache" in message
    assert imported == "set()"


def test_the_vocabulary_is_that_of_the_tokenizer(causal: Callable[..., Path]) -> None:
    assert vocabulary(causal()) > 300


@pytest.mark.parametrize(
    ("recipe", "option", "message"),
    [
        ("query-likelihood", {"prefix_reuse": True}, "cannot reuse a prefix: leave prefix_reuse out"),
        ("qwen3", {"max_new_tokens": 5}, "writes nothing: leave max_new_tokens out"),
    ],
)
def test_an_option_without_effect(
    causal: Callable[..., Path], recipe: str, option: dict[str, Any], message: str
) -> None:
    with (
        Reranker(causal(), backend="llm-pointwise", recipe=recipe) as reranker,
        pytest.raises(InvalidOptionsError, match=message),
    ):
        reranker.rank(QUERY, DOCUMENTS, **option)


@pytest.mark.parametrize("given", [{"generator": "litellm"}, {"provider": "litellm"}])
def test_litellm_where_it_is_not_installed(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(InvalidOptionsError, match=r"pip install 'rerank-llm\[litellm\]'"):
        Reranker("groq/llama-3.1-8b-instant", backend="llm-listwise", **given)
